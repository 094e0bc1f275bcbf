"""Settings: wrong values are refused by name, every variable is documented, tokens are kept secret."""

import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.domain.errors import ConfigError
from shared.settings import (
    Settings,
    ensure_token,
    key_secret,
    load_settings,
    require_token_beyond_loopback,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "0"),
        ("CIRCUIT_BREAKER_TIMEOUT_SEC", "-1"),
        ("BATCH_MAX_SIZE", "0"),
        ("JOB_LEASE_SEC", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("TRUTHGPT_KEY_PREFIX", "a:b"),
        ("RATE_LIMIT_RPM", "-1"),
        ("RATE_LIMIT_ENDPOINTS", "POST /v1/infer"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("WEBHOOK_ALLOW_HOSTS", "10.0.0.0/99"),
        ("REDIS_URL", "sentinel://a:26379,b:26379"),
        ("REDIS_URL", "sentinel://a:port/main"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"{name}.*{re.escape(value)}"):
        load_settings()


def test_a_short_token_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUTHGPT_API_TOKEN", "hunter2")
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert "TRUTHGPT_API_TOKEN" in refused.value.detail and "hunter2" not in refused.value.detail


def test_no_secret_is_in_what_settings_print_of_themselves() -> None:
    settings = load_settings(
        TRUTHGPT_API_TOKEN="secret-of-the-token",
        TRUTHGPT_KEY_SECRET="secret-of-the-keys",
        REDIS_URL="redis://:secret-of-redis@127.0.0.1/0",
    )

    assert "secret-of" not in repr(settings) and "secret-of" not in str(settings)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.9.1"])
def test_loopback_needs_no_token_of_the_users(host: str) -> None:
    settings = load_settings(TRUTHGPT_API_TOKEN=None)
    require_token_beyond_loopback(settings, host)
    assert settings.api_token is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "", "192.0.2.1", "example.org"])
def test_beyond_loopback_somebody_must_have_chosen_the_token(host: str) -> None:
    with pytest.raises(ConfigError, match="TRUTHGPT_API_TOKEN"):
        require_token_beyond_loopback(load_settings(TRUTHGPT_API_TOKEN=None), host)
    require_token_beyond_loopback(load_settings(TRUTHGPT_API_TOKEN="x" * 16), host)


def test_api_keys_have_a_secret_of_their_own_or_the_token(tmp_path: Path) -> None:
    given = {"TRUTHGPT_API_TOKEN": "the-token-0123456789", "TRUTHGPT_STATE_DIR": tmp_path}
    own = {"TRUTHGPT_KEY_SECRET": "the-secret-0123456789"}

    assert key_secret(load_settings(**given)) == "the-token-0123456789"
    assert key_secret(load_settings(**given, **own)) == "the-secret-0123456789"
    alone = load_settings(TRUTHGPT_API_TOKEN=None, TRUTHGPT_STATE_DIR=tmp_path)
    with pytest.raises(ConfigError, match="TRUTHGPT_API_TOKEN"):
        key_secret(alone)
    token, _ = ensure_token(alone)
    assert key_secret(alone) == token


@pytest.mark.parametrize(
    "secret", ["hunter2", "whsec_aHVudGVyMg==", "whsec_hunter2hunter2hunter2hunter2!"]
)
def test_a_webhook_secret_that_is_none_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("WEBHOOK_HMAC_SECRET", secret)
    with pytest.raises(ConfigError) as refused:
        load_settings()
    assert "WEBHOOK_HMAC_SECRET: " in refused.value.detail and secret not in refused.value.detail


@pytest.mark.parametrize(
    "url",
    [
        "https://traces.example/",
        "javascript:alert({trace_id})",
        'https://x/"{trace_id}',
        "{trace_id}",
    ],
)
def test_a_link_to_traces_names_the_trace(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TRACE_URL", url)
    with pytest.raises(ConfigError, match="TRACE_URL"):
        load_settings()


def test_an_empty_webhook_secret_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_HMAC_SECRET", "")
    assert not load_settings().keyring


def test_every_variable_is_documented() -> None:
    ours, _, _ = DOCS.read_text("utf-8").partition("### Variables of other programs")
    documented = set(re.findall(r"^\| `([A-Z_]+)`", ours, re.MULTILINE))
    known = {str(field.alias) for field in Settings.model_fields.values()}
    assert known <= documented
    assert documented - known == {"HOST", "WEB_CONCURRENCY"}


FIELDS = {name: str(field.alias) for name, field in Settings.model_fields.items()}


@pytest.mark.parametrize("field", FIELDS)
def test_no_variable_of_another_program_is_taken_for_a_setting(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    before = load_settings()
    alias = FIELDS[field]
    for name in {field, field.upper(), alias.lower(), alias.title()} - {alias}:
        monkeypatch.setenv(name, "of-another-program-0123456789")
    assert load_settings() == before


@pytest.mark.parametrize("alias", FIELDS.values())
def test_an_empty_variable_is_one_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch, alias: str
) -> None:
    monkeypatch.delenv(alias, raising=False)
    before = load_settings()
    monkeypatch.setenv(alias, "")
    assert load_settings() == before


def test_what_code_says_goes_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRUTHGPT_STATE_DIR", "/elsewhere")
    assert load_settings(state_dir=tmp_path).state_dir == tmp_path
    assert load_settings(TRUTHGPT_STATE_DIR=tmp_path).state_dir == tmp_path


def test_lists_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_ENDPOINTS", "POST /v1/infer=60, GET /v1/jobs/{job_id}=0")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    settings = load_settings()
    assert settings.rate_endpoints == {"POST /v1/infer": 60, "GET /v1/jobs/{job_id}": 0}
    assert [str(net) for net in settings.trusted_proxies] == ["10.0.0.0/8", "::1/128"]


def test_batch_settings_go_over_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("models: {echo: {engine: echo, batch: {max_size: 4}}}")
    monkeypatch.setenv("TRUTHGPT_CONFIG", str(config))
    assert load_settings().catalog.get("echo").batch.max_size == 4
    monkeypatch.setenv("BATCH_MAX_SIZE", "9")
    assert load_settings().catalog.get("echo").batch.max_size == 9


def test_breaker_settings_go_over_the_catalogue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("models: {echo: {engine: echo, breaker: {failure_threshold: 4}}}")
    monkeypatch.setenv("TRUTHGPT_CONFIG", str(config))
    monkeypatch.setenv("CIRCUIT_BREAKER_TIMEOUT_SEC", "7.5")
    breaker = load_settings().catalog.get("echo").breaker
    assert (breaker.failure_threshold, breaker.timeout_sec) == (4, 7.5)
    monkeypatch.setenv("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "9")
    assert load_settings().catalog.get("echo").breaker.failure_threshold == 9


def test_the_server_makes_one_token_however_many_processes_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TRUTHGPT_API_TOKEN", raising=False)
    monkeypatch.setenv("TRUTHGPT_STATE_DIR", str(tmp_path / "state"))
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: ensure_token(load_settings()), range(16)))
    [(token, path)] = made
    assert path is not None and len(token) > 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["token"]


def test_redis_is_required_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    with pytest.raises(ConfigError, match="REDIS_URL"):
        load_settings().require_redis()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("8GiB", 8 * 2**30), ("512MB", 512 * 10**6), ("1073741824", 2**30)],
)
def test_the_memory_limit_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int
) -> None:
    monkeypatch.setenv("ENGINE_MEMORY_LIMIT", value)
    assert load_settings().engine_memory_limit == expected


@pytest.mark.parametrize("value", ["lots", "1KiB"])
def test_a_memory_limit_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ENGINE_MEMORY_LIMIT", value)
    with pytest.raises(ConfigError, match=f"ENGINE_MEMORY_LIMIT: .*{value}"):
        load_settings()
