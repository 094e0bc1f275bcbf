"""Catalogue entries that name a `base`: a LoRA adapter, served from the engine host of its base model."""

from collections.abc import Mapping
from typing import Any

from shared.domain.errors import ConfigError

OWN = frozenset({"base", "adapter", "version", "limits", "breaker", "retries", "cache", "fallback"})
"""What an adapter's entry may say; all else is its base's."""
NOT_INHERITED = frozenset({"version", "fallback"})
ENGINES = frozenset({"text-generation", "vllm"})
"""Engines that serve adapters."""


def with_base(name: str, entries: Mapping[str, Any], where: str) -> Any:
    """The entry of a model as it stands in the file, with what it has of its base.

    `where` is the place of all entries. Raises `ConfigError` for a base that cannot be one, and for what an
    adapter's entry may not say. An entry without `base` comes back as it is.
    """
    entry = entries[name]
    here = f"{where}.{name}"
    if not isinstance(entry, dict):
        return entry
    if "adapters" in entry:
        raise ConfigError(
            f"{here}.adapters: give each adapter an entry of its own, with base: {name}"
        )
    if entry.get("base") is None:
        if entry.get("adapter") is not None:
            raise ConfigError(f"{here}.adapter: name the entry of its base model as base: NAME")
        return entry
    base = _base(str(entry["base"]), entries, here)
    if entry.get("adapter") is None:
        raise ConfigError(f"{here}.adapter: name the directory of the LoRA adapter")
    for field in entry:
        if field not in OWN:
            raise ConfigError(
                f"{here}.{field}: an adapter has this of its base; set it at models.{entry['base']}"
            )
    inherited = {field: value for field, value in base.items() if field not in NOT_INHERITED}
    limits = entry.get("limits")
    if isinstance(limits, dict) and isinstance(base.get("limits"), dict):
        limits = {**base["limits"], **limits}
    return {**inherited, **entry, **({} if limits is None else {"limits": limits})}


def _base(name: str, entries: Mapping[str, Any], here: str) -> dict[str, Any]:
    base = entries.get(name)
    if not isinstance(base, dict):
        raise ConfigError(f"{here}.base: no model {name!r}")
    if base.get("base") is not None:
        raise ConfigError(
            f"{here}.base: {name} is an adapter itself; name its base, {base['base']}"
        )
    if base.get("engine") not in ENGINES:
        served = ", ".join(sorted(ENGINES))
        raise ConfigError(
            f"{here}.base: {name} has engine {base.get('engine')!r}; adapters are served by {served}"
        )
    return base
