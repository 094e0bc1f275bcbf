"""The packages' imports: no module takes part in a cycle, and no engine needs another."""

from collections.abc import Iterable, Iterator

import grimp
import pytest

from workers.engines.registry import BUILT_IN

PACKAGES = ("api", "workers", "shared", "client", "cli")
ONE_SHOT = "workers.engines.one_shot:OneShot"


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_imports_itself_by_a_detour(package: str) -> None:
    graph = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > 5
    assert list(cycles(imports)) == []


@pytest.mark.parametrize("engine", [*BUILT_IN.values(), ONE_SHOT])
def test_an_engine_imports_no_other_engine(engine: str) -> None:
    graph = grimp.build_graph("workers", exclude_type_checking_imports=False, cache_dir=None)
    own, others = _part(engine), {_part(other) for other in (*BUILT_IN.values(), ONE_SHOT)}
    reached = graph.find_upstream_modules(own, as_package=True)
    assert reached, "an engine imports at least the protocol"
    assert {_part(module) for module in reached} & (others - {own}) == set()


def _part(module: str) -> str:
    """`workers.engines.vllm.adapter:Vllm` to `workers.engines.vllm`"""
    return ".".join(module.partition(":")[0].split(".")[:3])


def test_a_cycle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set[str](), "e": {"e"}}
    assert list(cycles(imports)) == [["b", "c"], ["e"]]


def cycles(imports: dict[str, set[str]]) -> Iterator[list[str]]:
    """Groups of modules each of which imports, perhaps by way of others, each of the group."""
    reached = {module: set(_reached_from(imports, module)) for module in imports}
    seen: set[str] = set()
    for module in sorted(imports):
        if module in reached[module] and module not in seen:
            group = [other for other in sorted(reached[module]) if module in reached[other]]
            seen.update(group)
            yield group


def _reached_from(imports: dict[str, set[str]], start: str) -> Iterable[str]:
    """What a module imports, what that imports, and so on."""
    found: set[str] = set()
    left = [start]
    while left:
        for module in imports[left.pop()] - found:
            found.add(module)
            left.append(module)
    return found
