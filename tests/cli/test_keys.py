"""`truthgpt keys`: made by one process, taken by another."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from cli.keys import keys as command
from shared.settings import Settings
from shared.store.jobs import JobStore
from tests.api.conftest import TOKEN, app, catalogue, client, rings, settings

__all__ = ["app", "catalogue", "client", "rings", "settings"]


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, store: JobStore, tmp_path: Path
) -> Settings:
    """The environment in which the commands reach the Redis of the app under test."""
    monkeypatch.setenv("REDIS_URL", settings.require_redis())
    monkeypatch.setenv("TRUTHGPT_KEY_PREFIX", settings.key_prefix)
    monkeypatch.setenv("TRUTHGPT_API_TOKEN", TOKEN)
    monkeypatch.setenv("TRUTHGPT_STATE_DIR", str(tmp_path))
    return settings


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=True)


def made(*arguments: str) -> Any:
    result = run("create", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def listed() -> dict[str, Any]:
    return {row["id"]: row for row in json.loads(run("list", "--json").stdout)["data"]}


def status(client: FlaskClient, token: str) -> int:
    return client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"}).status_code


def test_a_key_from_its_making_to_its_end(server: Settings, client: FlaskClient) -> None:
    assert run("list").output == "no keys but the server's own token\n"

    key = made(*("--tenant", "acme", "--scopes", "jobs:read", "--rpm", "5", "--rph", "50"),
               *("--max-queued", "7", "--max-bytes", "512MiB", "--expires", "90d"))  # fmt: skip

    assert status(client, key["token"]) == 200
    row = listed()[key["id"]]
    assert (row["tenant"], row["scopes"], row["state"]) == ("acme", ["jobs:read"], "active")
    assert (row["rpm"], row["rph"], row["max_queued"], row["max_bytes"]) == (5, 50, 7, 2**29)
    assert row["last_used_at"] is not None and row["expires_at"] > row["created_at"]
    assert "token" not in row and key["token"] not in run("list").stdout

    assert run("revoke", key["id"]).exit_code == 0
    assert listed()[key["id"]]["state"] == "revoked"


def test_the_token_alone_is_on_standard_output(server: Settings, client: FlaskClient) -> None:
    result = run("create", "--tenant", "acme")

    assert result.stdout.startswith("tgk_") and result.stdout.count("\n") == 1
    assert "not shown again" in result.stderr
    assert status(client, result.stdout.strip()) == 200


def test_rotation(server: Settings, client: FlaskClient) -> None:
    key = made("--tenant", "acme")

    new = json.loads(run("rotate", key["id"], "--overlap", "1h", "--json").stdout)
    last = json.loads(run("rotate", new["id"], "--json").stdout)

    assert [status(client, one["token"]) for one in (key, new, last)] == [200, 401, 200]
    assert last["tenant"] == "acme" and last["scopes"] == key["scopes"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create",), "--tenant"),
        (("create", "--tenant", "a:b"), "tenant"),
        (("create", "--tenant", "a", "--scopes", "jobs:read,root"), "root"),
        (("create", "--tenant", "a", "--scopes", ""), "scopes"),
        (("create", "--tenant", "a", "--rpm", "0"), "rpm"),
        (("create", "--tenant", "a", "--expires", "90"), "90"),
        (("create", "--tenant", "a", "--expires", "99999d"), "expires"),
        (("revoke", "0" * 16), "no key"),
        (("rotate", "0" * 16), "no key"),
    ],
)
def test_mistakes_are_named(server: Settings, arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)

    assert result.exit_code != 0
    assert said in result.output + str(result.exception)
    assert listed() == {}


def test_a_key_under_no_secret_or_in_no_redis_is_not_made(
    server: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRUTHGPT_API_TOKEN")
    assert "TRUTHGPT_API_TOKEN" in str(run("create", "--tenant", "a").exception)

    monkeypatch.delenv("REDIS_URL")
    assert "REDIS_URL" in str(run("create", "--tenant", "a").exception)


def test_the_servers_own_redis_and_token_are_found_in_its_state_directory(
    server: Settings, client: FlaskClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TRUTHGPT_API_TOKEN")
    monkeypatch.delenv("REDIS_URL")
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "redis").mkdir()
    port = server.require_redis().rpartition(":")[2].partition("/")[0]
    (tmp_path / "redis" / "redis.conf").write_text(f"bind 127.0.0.1\nport {port}\nrequirepass x\n")

    result = run("create", "--tenant", "acme")

    assert status(client, result.stdout.strip()) == 200


def test_a_key_is_changed_and_its_token_stays(server: Settings, client: FlaskClient) -> None:
    key = made("--tenant", "acme", "--rpm", "5", "--expires", "1h", "--note", "reports")

    shown = run("update", key["id"], *("--rph", "100", "--reset", "rpm", "--reset", "expires"))
    assert shown.output == f"{key['id']} of acme: rpm 5 to none, rph none to 100, " + (
        f"expires {key['expires_at']} to none\n"
    )
    row = listed()[key["id"]]
    assert (row["rpm"], row["rph"], row["expires_at"]) == (None, 100, None)
    assert row["note"] == "reports" and status(client, key["token"]) == 200
    changed = json.loads(run("update", key["id"], "--note", "", "--json").stdout)
    assert changed["note"] == "" and changed["rph"] == 100


def test_a_change_says_what_is_wrong_with_it(server: Settings) -> None:
    key_id = made("--tenant", "acme")["id"]

    assert "name what is to change" in run("update", key_id).output
    both = run("update", key_id, "--max-queued", "5", "--reset", "max-queued")
    assert "--max-queued is both given and reset" in both.output
    absent = run("update", "0" * 16, "--rpm", "5")
    assert absent.exit_code != 0 and "there is no key" in str(absent.exception)
