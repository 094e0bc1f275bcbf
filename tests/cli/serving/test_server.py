import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.serving.server import Options, Server
from cli.terminal.screen import rendered, summary
from shared.domain.errors import ConfigError
from shared.settings.sign_in_ticket import nonce_of


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Options]:
    for name in ("TRUTHGPT_API_TOKEN", "REDIS_URL", "TRUTHGPT_CONFIG", "PORT"):
        monkeypatch.delenv(name, raising=False)
    catalogue = tmp_path / "catalog.yaml"
    catalogue.write_text("models: {echo: {engine: echo}}")
    yield Options(port=0, flower_port=0, state_dir=tmp_path / "state", config=catalogue)


def changed(options: Options, **changes: object) -> Options:
    values = {name: getattr(options, name) for name in options.__slots__}
    return Options(**{**values, **changes})


def free_again(options: Options) -> None:
    """A refusal keeps nothing: the same start without its fault is taken."""
    Server(options)._lock.release()


@pytest.mark.parametrize("option", ["port", "flower_port"])
def test_a_port_in_use_is_refused(options: Options, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flag = f"--{option.replace('_', '-')} {port}"
        with pytest.raises(ConfigError, match=rf"{flag}: 127\.0\.0\.1:{port} is in use"):
            Server(changed(options, **{option: port}))
    free_again(options)


def test_a_state_directory_in_use_is_refused(options: Options) -> None:
    Server(options)
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        Server(options)


def test_an_open_host_needs_a_token_of_the_user_s_own(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"TRUTHGPT_API_TOKEN: not set; host 0\.0\.0\.0"):
        Server(changed(options, host="0.0.0.0"))

    monkeypatch.setenv("TRUTHGPT_API_TOKEN", "a-token-for-tests-only")
    server = Server(changed(options, host="0.0.0.0"))
    assert server.url.startswith("http://127.0.0.1:")


def test_a_bad_catalogue_is_refused(options: Options, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        Server(changed(options, config=tmp_path / "absent.yaml"))
    assert options.state_dir is not None
    assert not options.state_dir.exists()


def test_the_environment_is_complete_and_keeps_the_user_s_threads(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    env = Server(options)._environment(None)
    assert env["OMP_NUM_THREADS"] == "3"
    assert env["TOKENIZERS_PARALLELISM"] == "false"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["TRUTHGPT_STATE_DIR"] == str(options.state_dir)
    assert env["TRUTHGPT_CONFIG"] == str(options.config)
    assert "TRUTHGPT_API_TOKEN" not in env


def test_the_token_is_on_no_command_line_and_in_no_table(options: Options) -> None:
    server = Server(options)
    assert options.state_dir is not None
    token = (options.state_dir / "token").read_text().strip()

    table = rendered(summary(server._summary([])))

    assert str(options.state_dir / "token") in table
    assert token not in table
    assert not any(token in part for spec in server._specs() for part in spec.command)


def test_a_link_that_signs_in_is_shown_on_a_terminal_alone(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(options)
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert server._sign_in_link() == ""
    assert "ticket" not in rendered(summary(server._summary([])))

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    link = server._sign_in_link().splitlines()[-1]

    url, ticket = link.split("#ticket=")
    assert url == f"{server.url}/console/sign-in"
    assert options.state_dir is not None
    token = (options.state_dir / "token").read_text().strip()
    assert nonce_of(token, ticket) is not None and token not in link
