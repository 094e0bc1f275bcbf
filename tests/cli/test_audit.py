"""`truthgpt audit`, and that no command which writes to the server's Redis goes past its audit log."""

import getpass
import json
import socket
from collections.abc import Mapping

import click
from click.testing import CliRunner

from cli.keys import keys
from cli.webhook_secrets import secrets
from shared.domain.audit import Action, Via
from shared.settings import Settings
from shared.store.audit import AuditLog
from shared.store.jobs import JobStore
from tests.api.conftest import catalogue, settings
from tests.cli.test_jobs import run as call
from tests.cli.test_keys import server
from tests.client.conftest import ScriptedServer, answer
from tests.client.conftest import server as scripted

__all__ = ["catalogue", "scripted", "server", "settings"]

READ = {"list"}


def run(group: click.Command, *arguments: str) -> str:
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_every_command_that_changes_keys_or_secrets_is_written_down(
    server: Settings, store: JobStore
) -> None:
    key_id = json.loads(run(keys, "create", "--tenant", "a", "--json"))["id"]
    secret_id = json.loads(run(secrets, "rotate", "--tenant", "a", "--json"))["id"]
    calls: dict[str, tuple[click.Group, Mapping[str, tuple[str, ...]]]] = {
        "key": (
            keys,
            {
                "create": ("--tenant", "b"),
                "update": (key_id, "--rpm", "3"),
                "rotate": (key_id,),
                "revoke": (key_id,),
            },
        ),
        "webhook_secret": (
            secrets,
            {"rotate": ("--tenant", "a"), "revoke": ("--tenant", "a", secret_id)},
        ),
    }
    log = AuditLog(store)
    for kind, (group, changing) in calls.items():
        assert set(group.commands) - READ == set(changing)
        for name, arguments in changing.items():
            run(group, name, *arguments)
            ([change], _) = log.listing("default", limit=1)
            assert (change.action, change.outcome) == (f"{kind}.{name}", "done")
            assert (change.via, change.user) == (Via.CLI, getpass.getuser())
            assert change.address == socket.gethostname()
            assert change.targets


def test_what_a_command_is_refused_is_kept_too(server: Settings, store: JobStore) -> None:
    result = CliRunner().invoke(keys, ["revoke", "0" * 16])

    assert result.exit_code != 0
    ([change], _) = AuditLog(store).listing("default", limit=9)
    assert change.action == Action.KEY_REVOKE and change.targets == ["0" * 16]
    assert change.outcome not in ("done", "begun")


def test_changes_are_listed_and_filters_go_to_the_server(scripted: ScriptedServer) -> None:
    row = {"at": "2025-11-21T16:01:27.099Z", "action": "key.revoke", "targets": ["k1"], "note": ""}
    row |= {"outcome": "done", "tenant": "acme", "key_id": "k9", "user": "", "via": "api"}
    scripted.replies = [answer({"data": [{**row, "address": "192.0.2.7"}], "next_cursor": None})]

    span = ("--since", "2026-11-30", "--until", "2026-11-30T18:00+02:00")
    filters = ("--action", "key.revoke", "--by", "k9", "--limit", "5", *span)
    shown = call(scripted, "audit", *filters).stdout
    (line,) = (line for line in shown.splitlines() if "k9" in line)
    assert line.split() == [
        *("2025-11-21", "16:01:27", "key.revoke", "k1", "done", "k9", "(acme)", "api"),
        "192.0.2.7",
    ]
    asked = scripted.seen[0].path
    assert asked == (
        "/v1/admin/audit?action=key.revoke&by=k9&since=2026-11-30T00%3A00%3A00.000Z"
        "&until=2026-11-30T16%3A00%3A00.000Z&limit=5"
    )
    told = json.loads(call(scripted, "audit", "--json").stdout)["data"]
    assert told[0]["targets"] == ["k1"]
