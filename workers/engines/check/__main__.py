"""`python -m workers.engines.check PATH`: a JSON report of a directory, for `truthgpt models check`."""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError, InputRefused
from workers.engines.check.comparison import compare
from workers.engines.check.directory import PLACE, Found, look_at
from workers.engines.check.trial import entry, memory, run, sample
from workers.engines.loading.placement import place
from workers.engines.pipeline.tasks import TASKS

SHOWN = 400
"""Characters of an output that a report repeats."""


def report(options: argparse.Namespace) -> dict[str, Any]:
    """What is known of the directory; `problem` says why it cannot be served, null where it can."""
    path = Path(options.path)
    told: dict[str, Any] = {"path": str(path), "problem": None}
    try:
        found = _chosen(look_at(path), options)
        told |= {"kind": found.kind, "engine": found.engine, "options": found.options}
        told |= {"files": {"read": found.read, "left_alone": found.left}}
        spec = entry(path, found, options.device, options.dtype)
        told["memory"] = memory(found, place(spec).dtype.itemsize)
        content, params = sample(found)
        info, output, seconds = run(spec, content, params)
        details = dict(info.details)
        told |= {"device": info.device, "dtype": info.dtype, "batching": details.get("batching")}
        told |= {"reason": details.get("reason"), "parts": details.get("parts")}
        told["max_tokens"] = details.get("max_tokens") or details.get("context")
        shown = json.dumps(output, ensure_ascii=False, default=str)[:SHOWN]
        told["ran"] = {"input": str(content)[:SHOWN], "output": shown, "seconds": seconds}
        if options.against:
            told["against"] = compare(path, found, content, params, output)
    except (ConfigError, InputRefused) as error:
        told["problem"] = error.detail.removeprefix(f"{PLACE}: ").removeprefix(
            "models.check.path: "
        )
    return told


def _chosen(found: Found, options: argparse.Namespace) -> Found:
    """What was found, by another engine or for another task where the user says so."""
    engine = options.engine or ("pipeline" if options.task else found.engine)
    task = options.task or found.options.get("task")
    if engine == "pipeline" and task not in TASKS:
        raise ConfigError(f"--task must be one of {', '.join(sorted(TASKS))}")
    made = {"task": task} if engine == "pipeline" else {}
    return Found(found.kind, engine, made, found.read, found.left, found.weights)


def main() -> int:
    """0 for a model that can be served and is not told apart from the library's."""
    options = argparse.ArgumentParser(prog="workers.engines.check", description=__doc__)
    options.add_argument("path")
    options.add_argument(
        "--engine", choices=("text-generation", "embedding", "ranking", "pipeline")
    )
    options.add_argument("--task")
    options.add_argument("--device", default="auto")
    options.add_argument("--dtype", default="auto")
    options.add_argument("--against", action="store_true")
    warnings.simplefilter("ignore")
    # Libraries print as they like; the report alone goes to standard output.
    written = os.dup(1)
    os.dup2(2, 1)
    told = report(options.parse_args())
    with os.fdopen(written, "w", encoding="utf-8") as out:
        json.dump(told, out, ensure_ascii=False)
    against = told.get("against") or {"same": True}
    return 0 if told["problem"] is None and against["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
