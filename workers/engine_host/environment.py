"""Chooses the environment variables that an engine host gets: what it needs and what its model's entry names.

An allow-list, since code that is not ours runs there: a list of what to keep back would have to know every
secret that an operator's shell, a container or a cluster puts beside ours.
"""

import re
from collections.abc import Mapping, Sequence

from shared.domain.errors import ConfigError

OURS = frozenset(
    {
        "ENABLE_STRUCTURED_LOGGING",
        "LOG_LEVEL",
        "LOG_LEVELS",
        "TRUTHGPT_CONFIG",
        "TRUTHGPT_MODEL",
    }
)
"""Settings that a host reads."""
SYSTEM = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "TERM", "TZ", "LANG", "LANGUAGE"),
        *("TMPDIR", "TMP", "TEMP", "NO_COLOR", "VIRTUAL_ENV"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
FAMILIES = (
    *("LC_", "LD_", "DYLD_", "XDG_", "PYTHON", "CONDA_", "MALLOC_", "GLIBC_"),
    *("CUDA_", "CUDNN_", "CUBLAS_", "NVIDIA_", "NCCL_", "ROCM_", "ROCR_", "HIP_", "HSA_", "ZE_"),
    *("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_", "NUMEXPR_", "ONEDNN_"),
    *("TORCH", "PYTORCH_", "TRITON_", "ACCELERATE_", "VLLM_", "JAX_", "XLA_", "TF_", "ORT_"),
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "SENTENCE_TRANSFORMERS_", "TOKENIZERS_"),
)
"""Beginnings of the names by which loaders, numeric libraries and devices are set up."""
_SECRET = re.compile(
    r"(?i)(^|_)(token|secret|passw(or)?d|passphrase|credentials?|auth|(api|access|private)_?key)s?(_|$)"
)
_LOGIN = re.compile(r"//[^/\s]*@")
"""A URL with a user's name or password in it."""


def host_environment(
    environment: Mapping[str, str], named: Sequence[str] = (), *, where: str = "env"
) -> dict[str, str]:
    """The environment of an engine host, out of its worker's.

    `named` are the variables that the model's entry names, at the place `where` of the catalogue. Raises
    `ConfigError` for one that is not set.
    """
    for name in named:
        if name not in environment:
            raise ConfigError(f"{where}: {name} is not set where this worker was started")
    return {
        name: value
        for name, value in environment.items()
        if name in named or name in OURS or _harmless(name, value)
    }


def _harmless(name: str, value: str) -> bool:
    known = name in SYSTEM or name.startswith(FAMILIES)
    return known and not _SECRET.search(name) and not _LOGIN.search(value)
