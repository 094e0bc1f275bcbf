"""An engine host in an environment of its own needs what docs/placement.md has people install, no more."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterable

from workers.engine_host.process import ROOT

IMPORTED = """
import json, sys
before = set(sys.modules)
import workers.host.__main__
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def test_the_host_needs_no_package_that_the_docs_do_not_install() -> None:
    text = (ROOT / "docs" / "placement.md").read_text("utf-8")
    [line] = re.findall(r"^vllm-env/bin/pip install (.+)$", text, re.MULTILINE)
    named = [re.split("[=<>]", word)[0] for word in line.split()]
    command = [sys.executable, "-c", IMPORTED]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60)
    owners = importlib.metadata.packages_distributions()
    needed = {canonical(owner) for name in json.loads(ran.stdout) for owner in owners.get(name, ())}

    assert needed - with_requirements(named) - {"truthgpt-inference"} == set()


def with_requirements(names: Iterable[str]) -> set[str]:
    """These distributions and what they bring with them, as far as they are installed here."""
    found: set[str] = set()
    left = [canonical(name) for name in names]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        plain = [one for one in requirements if "extra ==" not in one]
        left += [canonical(re.split(r"[^\w.-]", one)[0]) for one in plain]
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
