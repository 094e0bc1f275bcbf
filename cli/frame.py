"""One frame of `truthgpt top`: a server's queues, workers and leftovers on one screen. Pure."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.pace import Pace
from cli.screen import BREAKER_COLOURS, MODEL_COLOURS, without_controls
from client.model import SERVING

Row = Mapping[str, Any]

GAP = 3
"""Columns of a terminal between two of a table."""
AROUND = 10
"""Lines of a frame that are neither a model nor a worker."""
FEWEST = 3
"""Workers that are shown however small the terminal is."""
BAR = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What the server said at one time: `GET /v1/models`, `GET /v1/stats` and the paces from it."""

    models: Sequence[Row]
    stats: Row
    paces: Mapping[str, Pace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Column:
    heading: str
    show: Callable[[Row], Text]
    right: bool = True
    spare: int = 0
    """Where not all fit, those with the highest number are left out first; with 0 never."""


def frame(look: Look | None, *, url: str, width: int, height: int, trouble: str = "") -> Group:
    """A frame for a terminal of `width` columns and `height` lines. `trouble` is why `look` is old."""
    parts: list[RenderableType] = [_head(look, url)]
    if trouble:
        parts.append(Text(trouble, "bold red"))
    elif look is None:
        parts.append(Text("asking …", "dim"))
    if look is not None:
        models = [_model(look, row) for row in look.models]
        workers = sorted(_workers(look.models), key=_worst_first)
        room = max(FEWEST, height - AROUND - len(models) - bool(trouble))
        parts += [Text(), _table(MODEL_COLUMNS, models, width)]
        parts += [Text(), _leftovers(look.stats)]
        parts += [Text(), _table(WORKER_COLUMNS, workers[:room], width)]
        if len(workers) > room:
            parts.append(Text(f"… and {len(workers) - room} more workers", "dim"))
        if not workers:
            parts.append(Text("no worker lives", "bold red"))
    return Group(*parts)


def _head(look: Look | None, url: str) -> Text:
    head = Text.assemble(("truthgpt top", "bold"), "  ", url)
    if look is not None and look.paces:
        seconds = max(pace.seconds for pace in look.paces.values())
        head.append(f"  paces of the last {seconds:.0f} s", "dim")
    return head


def _model(look: Look, row: Row) -> Row:
    """A model with all that is known of it."""
    name = row["id"]
    found: Row = next((stats for stats in look.stats["models"] if stats["model"] == name), {})
    return {**row, "stats": found, "pace": look.paces.get(name)}


def _workers(models: Iterable[Row]) -> Iterable[Row]:
    for model in models:
        for worker in model.get("workers") or ():
            yield {"model": model["id"], **worker}


def _worst_first(worker: Row) -> tuple[bool, str, str]:
    return worker.get("state") in SERVING, worker["model"], str(worker.get("name"))


def _table(columns: Sequence[Column], rows: Iterable[Row], width: int) -> Table:
    cells = [[column.show(row) for column in columns] for row in rows]
    shown = _fitting(columns, cells, width)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in (columns[place] for place in shown):
        # The first names its row; it gives way when the terminal is too narrow for all.
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if column is columns[0] else len(column.heading),
        )
    for row in cells:
        table.add_row(*(row[place] for place in shown))
    return table


def _fitting(columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int) -> list[int]:
    """The places of the columns that are shown."""
    places = list(range(len(columns)))
    widths = [
        max(len(column.heading), *(row[place].cell_len for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    while sum(widths[place] + GAP for place in places) - GAP > width:
        last = max(places, key=lambda place: columns[place].spare)
        if columns[last].spare == 0:
            break
        places.remove(last)
    return places


def _leftovers(stats: Row) -> Text:
    """What stands beside the queues."""
    dead, webhooks, cache = stats["dead_letters"], stats["webhooks"], stats.get("cache")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"dead letters {dead}", "red" if dead else "")
    line.append(f"   webhooks waiting {webhooks['waiting']}")
    if webhooks["oldest_ms"] is not None:
        line.append(f", oldest {duration(webhooks['oldest_ms'])}")
    given_up = webhooks["given_up"]
    line.append(f", given up {given_up}", "red" if given_up else "")
    if cache is not None:
        line.append(f"   cache {cache['hits']} hits, {cache['misses']} misses")
    return line


def duration(ms: float | None) -> str:
    """`850 ms`, `12 s`, `4 min`, `3 h`; nothing for None."""
    if ms is None:
        return ""
    for size, unit in ((3_600_000, "h"), (60_000, "min"), (1_000, "s")):
        if ms >= 2 * size or (unit == "s" and ms >= size):
            return f"{ms / size:.0f} {unit}"
    return f"{ms:.0f} ms"


def rate(value: float | None) -> str:
    """Three figures at most where there is a fraction."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.{2 if value < 1 else 1}f}"


def _size(count: float | None) -> str:
    return "" if not count else f"{count / 2**20:,.0f} MiB"


def _breaker(row: Row) -> Text:
    breaker = row.get("breaker") or {}
    state, wait = str(breaker.get("state", "")), breaker.get("retry_after_ms") or 0
    again = f" {duration(wait)}" if wait else ""
    return Text(state.replace("_", "-") + again, BREAKER_COLOURS.get(state, ""))


def _state(row: Row) -> Text:
    said = str(row.get("state", ""))
    detail = without_controls(str(row.get("detail") or "")).partition("\n")[0]
    text = Text("draining" if row.get("draining") else said, MODEL_COLOURS.get(said, "yellow"))
    return text.append(f" {detail}", "dim") if detail and said not in SERVING else text


def _batch(row: Row) -> Text:
    """Jobs in the engine over those it can hold."""
    active, capacity = row.get("active") or 0, row.get("capacity") or 0
    filled = min(BAR, math.ceil(BAR * active / capacity)) if capacity else 0
    return Text.assemble(
        ("█" * filled, "cyan"), ("░" * (BAR - filled), "dim"), f" {active}/{capacity}"
    )


def _of_stats(name: str) -> Callable[[Row], Text]:
    return lambda row: Text(duration(row["stats"].get(name)))


def _percentile(name: str) -> Callable[[Row], Text]:
    return lambda row: Text(duration((row["stats"].get("latency_ms") or {}).get(name)))


def _pace(name: str) -> Callable[[Row], Text]:
    return lambda row: Text(rate(getattr(row["pace"], name, None)))


def _failed(row: Row) -> Text:
    count = (row["stats"].get("ended") or {}).get("failed", 0)
    return Text(str(count), "red" if count else "")


def _place(row: Row) -> str:
    host, pid = row.get("host"), row.get("pid")
    return f"{host}:{pid}" if host and pid else str(row.get("name", ""))


MODEL_COLUMNS = (
    Column("Model", lambda row: Text(str(row["id"])), right=False),
    Column("State", _state, right=False),
    Column("Waiting", lambda row: Text(str(row["queue_depth"]))),
    Column("Oldest", _of_stats("oldest_ms")),
    Column("Drained in", _of_stats("drained_in_ms"), spare=2),
    Column("Running", lambda row: Text(str(row.get("running", 0)))),
    Column("Jobs/s", _pace("jobs")),
    Column("Tokens/s", _pace("tokens")),
    Column("p50", _percentile("p50"), spare=3),
    Column("p95", _percentile("p95"), spare=1),
    Column("Failed", _failed, spare=4),
    Column("Breaker", _breaker, right=False),
)
WORKER_COLUMNS = (
    Column("Worker", lambda row: Text(_place(row)), right=False),
    Column("Model", lambda row: Text(row["model"]), right=False),
    Column("State", _state, right=False),
    Column("Batch", _batch, right=False),
    Column(
        "Device", lambda row: Text(str((row.get("engine") or {}).get("device", ""))), right=False
    ),
    Column("Memory", lambda row: Text(_size(row.get("memory_bytes"))), spare=1),
    Column("Restarts", lambda row: Text(str(row.get("restarts", "")))),
    Column("Breaker", _breaker, right=False),
)
