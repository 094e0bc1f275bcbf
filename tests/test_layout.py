"""Tests lie where one looks for them: a module's beside its name, a subject's under a name of this list."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGES = ("api", "bench", "cli", "client", "shared", "workers")
SUBJECTS = {
    # The whole API, as a client or an attacker meets it.
    "api/test_access.py",
    "api/test_breaker.py",
    "api/test_contract.py",
    "api/test_fuzz.py",
    "api/test_gunicorn.py",
    "api/test_redis_away.py",
    "api/test_slow_clients.py",
    "api/test_storage.py",
    # What requests say beside their body.
    "api/http/test_request_headers.py",
    # What a command may load.
    "cli/test_imports.py",
    # The store as a whole: who gets in, who shares, what it keeps, what an older version left.
    "shared/redis/test_sentinel.py",
    "shared/store/jobs/test_broken_jobs.py",
    "shared/store/jobs/test_awaited.py",
    "shared/store/jobs/test_creations_in_one_call.py",
    "shared/store/jobs/test_failed_creations.py",
    "shared/store/jobs/test_random_creations.py",
    "shared/store/jobs/test_rings.py",
    "shared/store/test_admission.py",
    "shared/store/test_flights.py",
    "shared/store/test_outputs.py",
    "shared/store/test_shared_results.py",
    "shared/store/test_sliding_window.py",
    "shared/store/test_storage.py",
    "shared/store/test_stored_before.py",
    # The text engine on devices, with architectures, at the end of a text.
    "workers/engines/text_generation/speculation/test_lookup.py",
    "workers/engines/text_generation/test_architectures.py",
    "workers/engines/text_generation/test_chats.py",
    "workers/engines/text_generation/test_choices.py",
    "workers/engines/text_generation/test_cuda.py",
    "workers/engines/text_generation/test_failed_steps.py",
    "workers/engines/text_generation/grammar/test_texts.py",
    "workers/engines/text_generation/test_requested_texts.py",
    "workers/engines/text_generation/test_text_ends.py",
    "workers/engines/text_generation/test_text_part.py",
    "workers/engines/texts/test_least_length.py",
    "workers/engines/vllm/test_failed_steps.py",
    # The host's process: what it starts, says and is given.
    "workers/host/test_children.py",
    "workers/host/test_environment.py",
    "workers/host/test_host_logs.py",
    "workers/host/test_memory.py",
    # Worker and engine together.
    "workers/test_breaker.py",
    "workers/test_crashed_texts.py",
    "workers/test_fault_outcomes.py",
    "workers/test_ring_protocol.py",
    "workers/test_shared_host.py",
}
CHECKS = {"raises", "warns", "fail", "eventually", "run_state_machine_as_test", "assert_problem"}
"""Calls that fail a test themselves, beside `assert`."""
FILES = sorted(TESTS.rglob("test_*.py"))


def mirrored(test: Path) -> bool:
    """Whether a module or a package has this test's name, where the test lies."""
    folder, name = ROOT / test.parent, test.stem.removeprefix("test_")
    modules = (folder / f"{name}.py", folder / f"__{name}__.py", folder / name / "__init__.py")
    return any(module.exists() for module in modules) or name == folder.name


def test_a_test_has_the_name_of_a_module_or_of_a_listed_subject() -> None:
    relative = {test.relative_to(TESTS) for test in FILES}
    ours = {test for test in relative if test.parts[0] in PACKAGES}

    assert ours
    assert {str(test) for test in ours if not mirrored(test)} <= SUBJECTS


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(node: ast.AST) -> set[str]:
    """The last names of what is called: `f` of `f()`, `a.f()`, and `@pytest.fixture`d arguments."""
    return {
        ast.unparse(found.func).rpartition(".")[2]
        for found in ast.walk(node)
        if isinstance(found, ast.Call)
    }


def checks(node: ast.AST) -> bool:
    return any(isinstance(found, ast.Assert) for found in ast.walk(node)) or bool(
        calls(node) & CHECKS
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(TESTS)))
def test_every_test_can_fail(file: Path) -> None:
    """It asserts, or calls what does in its own file."""
    tree = ast.parse(file.read_text("utf-8"))
    known = {function.name for function in functions(tree) if checks(function)}
    idle = [
        function.name
        for function in functions(tree)
        if function.name.startswith("test_")
        and not checks(function)
        and not calls(function) & known
    ]
    assert idle == []
