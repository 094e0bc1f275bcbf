"""Reads which modules a sentence-transformers directory lists, and where each has its files."""

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.sentence_layout.transformer_settings import check_keys, part

NAMESPACE = "sentence_transformers."
"""Module types from elsewhere are code that the directory brings."""
LINE = ("idx", "name", "path", "type", "kwargs")
"""Keys of a module in modules.json; the order is the list's, `kwargs` only names what callers may pass."""
ROUTERS = ("Router", "Asym")
ROUTER_FILES = ("router_config.json", "config.json")
TEXT = (None, "text")
"""Modalities of a route mapping that a text fits."""


@dataclass(frozen=True, slots=True)
class Module:
    """A line of modules.json, or a module of a router's: `kind` is the last part of its type."""

    kind: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Routes:
    """The modules of each route by its name; `default` is taken without a task.

    `by_task` are the names of routes by task, None for any, as the library looks them up.
    """

    modules: Mapping[str, Sequence[Module]]
    default: str | None = None
    by_task: Mapping[str | None, str] = field(default_factory=dict)

    def name(self, task: str | None) -> str | None:
        """The route of a task; None where there is none."""
        for key in (task, None):
            if key in self.by_task:
                return self.by_task[key]
        if task is not None:
            return task if task in self.modules else None
        return "text" if "text" in self.modules else self.default

    def reached(self) -> dict[str, Sequence[Module]]:
        """The routes that some text can take."""
        tasks = [*self.modules, *(task for task in self.by_task if task is not None), None]
        names = {self.name(task) for task in tasks}
        return {name: modules for name, modules in self.modules.items() if name in names}


def list_modules(path: Path, where: str) -> list[Module]:
    """What modules.json lists, in order. Raises `ConfigError` for what cannot be followed."""
    listing = path / "modules.json"
    try:
        lines = json.loads(listing.read_text("utf-8"))
        types = [str(line["type"]) for line in lines]
        folders = [path / str(line["path"]) for line in lines]
        names = [str(line["name"]) for line in lines if "name" in line]
        keys = {key for line in lines for key in line}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{where}: cannot read {listing}: {error!r}") from None
    check_keys(dict.fromkeys(keys), LINE, f"{where}: {listing}")
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: {listing} has two modules of one name: {', '.join(names)}")
    if not types:
        raise ConfigError(f"{where}: {listing} lists no module")
    return _modules(path, listing, types, folders, where)


def read_routes(router: Module, root: Path, where: str) -> Routes:
    """The routes of a Router. Raises `ConfigError` naming what cannot be followed."""
    file = next((f for name in ROUTER_FILES if (f := router.folder / name).exists()), None)
    if file is None:
        raise ConfigError(f"{where}: there is no {router.folder / ROUTER_FILES[0]}")
    config = read_json(file, where)
    place = f"{where}: {file}"
    check_keys(config, ("types", "structure", "parameters"), place)
    types, structure = part(config, place, "types"), part(config, place, "structure")
    parameters = part(config, place, "parameters")
    check_keys(parameters, ("default_route", "allow_empty_key", "route_mappings"), place)
    folders = [router.folder / name for name in types]
    made = dict(zip(types, _modules(root, file, list(types.values()), folders, where), strict=True))
    try:
        modules = {name: [made[key] for key in keys] for name, keys in structure.items()}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{place}: structure names what types does not: {error}") from None
    if not modules or not all(modules.values()):
        raise ConfigError(f"{place}: a route has no modules")
    default = parameters.get("default_route")
    if default is None and parameters.get("allow_empty_key", True):
        default = next(iter(modules))
    by_task = _by_task(part(parameters, place, "route_mappings"), place)
    lost = sorted({str(name) for name in (default, *by_task.values())} - {"None", *modules})
    if lost:
        raise ConfigError(f"{place}: there is no route {', '.join(lost)}")
    return Routes(modules, default, by_task)


def _by_task(mappings: Mapping[str, Any], place: str) -> dict[str | None, str]:
    """Routes by task, of those that a text can take; "('query', 'text')" counts before "('query', None)"."""
    found: dict[tuple[str | None, str | None], str] = {}
    for key, route in mappings.items():
        try:
            task, modality = ast.literal_eval(key)
        except (ValueError, SyntaxError, TypeError):
            raise ConfigError(f"{place}: route_mappings: cannot read {key!r}") from None
        if modality in TEXT and isinstance(task, str | None) and isinstance(route, str):
            found[task, modality] = route
    by_task: dict[str | None, str] = {}
    for modality in TEXT:
        by_task |= {task: route for (task, kind), route in found.items() if kind == modality}
    return by_task


def _modules(
    root: Path, listing: Path, types: Sequence[Any], folders: Sequence[Path], where: str
) -> list[Module]:
    foreign = [str(name) for name in types if not str(name).startswith(NAMESPACE)]
    if foreign:
        raise ConfigError(
            f"{where}: {listing} names code of its own, which is never run: {', '.join(foreign)}"
        )
    for folder in folders:
        if not folder.resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"{where}: {listing} points outside of {root}: {folder}")
    kinds = [str(name).rsplit(".", 1)[-1] for name in types]
    return [Module(kind, folder) for kind, folder in zip(kinds, folders, strict=True)]
