"""Which tests a process of a run gets, in which order, and how processes share the work of collecting."""

import importlib
from contextlib import suppress

import pytest
from xdist.scheduler import LoadFileScheduling

TOGETHER = {
    "clients": ("clients/",),
    "real models": ("integration/test_real_models.py", "integration/test_batches.py"),
}
"""Files whose tests share servers that take long to start, by what their paths begin with: they run in one
process, one after the other."""

LONGEST = (
    "clients",
    "console/test_browser.py",
    "contracts/test_engines.py",
    "integration/test_processes.py",
    "chaos/test_quick.py",
    "real models",
    "api/test_contract.py",
    "integration/test_texts.py",
    "workers/test_fault_outcomes.py",
    "workers/engine_host/test_client.py",
    "workers/test_runtime.py",
    "integration/test_observability.py",
    "integration/test_metrics.py",
    "api/test_redis_away.py",
    "workers/test_breaker.py",
    "zoo/test_packed.py",
    "docs/test_tutorial.py",
    "workers/test_crashed_texts.py",
    "workers/engines/text_generation/test_engine.py",
    "integration/test_acl.py",
    "workers/engines/test_row_blocks.py",
    "workers/engines/sentence_layout/test_recipe.py",
    "api/routes/test_streams.py",
    "show/test_show.py",
    "workers/webhooks/test_deliveries.py",
    "cli/serving/test_up.py",
    "workers/engine_host/test_shared_host.py",
    "workers/engines/text_generation/speculation/test_lookup.py",
    "shared/files/test_storage.py",
    "chaos/test_found.py",
    "api/test_slow_clients.py",
    "api/test_gunicorn.py",
    "shared/redis/test_guard.py",
    "zoo/test_static.py",
    "workers/engines/text_generation/grammar/test_texts.py",
    "shared/embedded_redis/test_server.py",
    "bench/test_sse.py",
    "integration/test_webhooks.py",
    "test_again.py",
    "api/http/test_requests.py",
)
"""They begin first, so that no core is left with one of them at the end; all others follow in their order."""


def unit_of(nodeid: str) -> str:
    """What one process is handed as a whole: a name in `TOGETHER`, else a file's path below this folder."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return next((name for name, paths in TOGETHER.items() if file.startswith(paths)), file)


class ByUnit(LoadFileScheduling):
    """Hands a process one unit after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


def import_share(config: pytest.Config) -> None:
    """In one of several processes, import its share of the modules of tests before it collects them all.

    In a fresh clone half of the time of collecting goes into rewriting the asserts of all modules. So each
    process does that for some of them and finds the others' compiled.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None:
        return
    number = int(worker["workerid"].removeprefix("gw"))
    for module in modules_of_tests(config)[number :: worker["workercount"]]:
        # What cannot be imported, or skips itself, is reported by the collection that follows.
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(module)


def modules_of_tests(config: pytest.Config) -> list[str]:
    """The names of the modules with tests below the paths that the run was given."""
    paths = [config.rootpath / argument.partition("::")[0] for argument in config.args]
    files = {
        file
        for path in paths
        for file in (path.rglob("test_*.py") if path.is_dir() else [path])
        if file.is_relative_to(config.rootpath)
    }
    return [
        ".".join(file.relative_to(config.rootpath).with_suffix("").parts) for file in sorted(files)
    ]
