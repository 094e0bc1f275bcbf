"""How much memory there is, as a container sees it."""

from pathlib import Path

import psutil

from shared.machine_memory import STORES_LEAST, machine_memory, stores_part


def test_the_smaller_of_machine_and_container(tmp_path: Path) -> None:
    limit, none = tmp_path / "memory.max", tmp_path / "unlimited"
    limit.write_text("1048576\n")
    none.write_text("max\n")
    total = psutil.virtual_memory().total
    assert machine_memory((none, tmp_path / "absent")) == total
    assert machine_memory((none, limit)) == 1048576


def test_a_store_gets_a_quarter_and_never_too_little() -> None:
    assert stores_part() == max(STORES_LEAST, machine_memory() // 4)
