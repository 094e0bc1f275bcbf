"""The alerts: valid, tested, explained, and about metrics and commands that there are."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import COMMANDS, main
from tests.conftest import require
from tests.promql import ALERTS, rules, unknown
from workers.execution.retries import DEAD

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ALERTS.parent
RUNBOOK = ROOT / "docs" / "runbook.md"
TESTS = ("alerts_test.yml", "budgets_test.yml")


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def sections() -> dict[str, str]:
    """The runbook's sections that are about an alert, by its name."""
    parts = re.split(r"^### (\w+)$", RUNBOOK.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def promtool(*arguments: str) -> str:
    binary = shutil.which("promtool")
    require(binary, "promtool (Debian's package `prometheus`)")
    done = subprocess.run(
        [str(binary), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules_and_the_configuration() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")


@pytest.mark.parametrize("file", TESTS)
def test_alerts_fire_when_they_must_and_only_then(file: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)


def test_rules_are_evaluated_in_their_order() -> None:
    """promtool takes groups in any order otherwise, and an alert then reads what is recorded too late."""
    groups = [group["name"] for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]]
    for file in TESTS:
        assert yaml.safe_load((FOLDER / file).read_text("utf-8"))["group_eval_order"] == groups


def test_each_alert_is_seen_to_fire_and_to_stay_silent() -> None:
    seen: dict[str, set[bool]] = {}
    for file in TESTS:
        for test in yaml.safe_load((FOLDER / file).read_text("utf-8"))["tests"]:
            for asked in test["promql_expr_test"]:
                [name] = re.findall(r'alertname="(\w+)"', asked["expr"])
                seen.setdefault(name, set()).add(bool(asked["exp_samples"]))
    assert seen == {name: {True, False} for name in alerts()}


def test_every_rule_reads_metrics_and_labels_that_there_are() -> None:
    for rule in rules():
        assert not unknown(rule["expr"]), rule


def test_the_codes_in_the_rules_are_those_of_dead_letters() -> None:
    named = [set(codes.split("|")) for codes in re.findall(r'code=~"([^"]*)"', ALERTS.read_text())]
    assert named and all(codes == DEAD for codes in named)


def test_every_alert_leads_to_its_section_and_every_section_to_an_alert() -> None:
    assert list(sections()) == list(alerts()), "in the same order"
    for name, alert in alerts().items():
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert alert["annotations"]["summary"].endswith(".")
        assert alert["labels"]["severity"] in ("page", "ticket")
        for word in ("**Means**", "**Look**", "**Do**"):
            assert word in sections()[name], (name, word)


def test_the_runbook_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", RUNBOOK.read_text("utf-8"), re.DOTALL)
    queries = [line for block in blocks for line in block.strip().splitlines()]
    assert len(queries) >= len(alerts()) / 2
    for query in queries:
        assert not unknown(query), query
    made = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "runbook", "rules": made}]}))
    promtool("check", "rules", str(file))


def test_the_commands_of_the_runbook_exist() -> None:
    named = set(re.findall(r"truthgpt ([a-z]+)((?: [a-z]+)?)", RUNBOOK.read_text("utf-8")))
    assert named
    for name, sub in named:
        assert name in COMMANDS, name
        command = main.get_command(None, name)  # type: ignore[arg-type]
        subcommands = getattr(command, "commands", None)
        assert subcommands is None or sub.strip() in subcommands, (name, sub)


def test_the_scrape_jobs_are_those_that_the_alerts_count_on() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    assert [job["job_name"] for job in jobs] == ["truthgpt-api", "truthgpt-worker"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
    found = {name for job in jobs for sd in job["dns_sd_configs"] for name in sd["names"]}
    workers = {name for name in services if name.startswith("worker-")}
    assert found == workers | {"api", "rescue", "batches"}
