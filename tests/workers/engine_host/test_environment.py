"""What an engine host sees of the worker's environment, and what it does not."""

import pytest

from shared.domain.errors import ConfigError
from shared.domain.models.catalog_file import OWN_SECRETS
from workers.engine_host.environment import OURS, host_environment

SECRETS = {
    **dict.fromkeys(OWN_SECRETS, "hush"),
    "CELERY_BROKER_URL": "redis://:hush@r",
    "FLOWER_BASIC_AUTH": "admin:hush",
    "AWS_SECRET_ACCESS_KEY": "hush",
    "DATABASE_URL": "postgres://u:hush@db",
    "HF_TOKEN": "hush",
    "HUGGINGFACE_HUB_TOKEN": "hush",
    "VLLM_API_KEY": "hush",
    "PYTHON_KEYRING_PASSWORD": "hush",
    "https_proxy": "http://user:hush@proxy:3128",
    "MY_OWN": "hush",
}
NEEDED = {
    "PATH": "/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "LD_LIBRARY_PATH": "/opt/lib",
    "PYTHONPATH": "/srv",
    "CUDA_VISIBLE_DEVICES": "0",
    "NVIDIA_VISIBLE_DEVICES": "all",
    "OMP_NUM_THREADS": "4",
    "MKL_NUM_THREADS": "4",
    "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    "TORCHINDUCTOR_CACHE_DIR": "/var/cache",
    "HF_HOME": "/models",
    "TOKENIZERS_PARALLELISM": "true",
    "http_proxy": "http://proxy:3128",
    "TRUTHGPT_MODEL": "m",
    "LOG_LEVEL": "DEBUG",
}


def test_a_host_gets_what_it_needs_and_nothing_else() -> None:
    assert host_environment({**SECRETS, **NEEDED}) == NEEDED


def test_what_the_entry_names_comes_too() -> None:
    found = host_environment({**SECRETS, **NEEDED}, ("MY_OWN", "HF_TOKEN"))
    assert found == {**NEEDED, "MY_OWN": "hush", "HF_TOKEN": "hush"}


def test_a_name_that_is_not_set_is_an_error_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.env: NOWHERE is not set"):
        host_environment(NEEDED, ("NOWHERE",), where="models.m.env")


def test_no_setting_with_a_secret_is_one_that_a_host_reads() -> None:
    assert not OURS & OWN_SECRETS
