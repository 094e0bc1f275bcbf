"""Composes one frame of `truthgpt top`: queues, workers and leftovers. Pure: state in, text out."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.terminal.pace import Pace
from cli.terminal.screen import BREAKER_COLOURS, MODEL_COLOURS, without_controls
from client.model import SERVING

Row = Mapping[str, Any]

GAP = 3
"""Columns of a terminal between two of a table."""
AROUND = 9
"""Lines of a frame that are neither a model, nor a worker, nor what stands beside the queues."""
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
    least: int = 0
    """Terminal columns to which its cells may be cut; 0: they are shown whole."""
    keep_end: bool = False
    """Cells are cut at their beginning: what tells a pod or a process apart stands at the end."""


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
        beside = _leftovers(look.stats, width)
        room = max(FEWEST, height - AROUND - len(beside) - len(models) - bool(trouble))
        parts += [Text(), _table(MODEL_COLUMNS, models, width)]
        parts += [Text(), *beside]
        parts += [Text(), _table(WORKER_COLUMNS, workers[:room], width)]
        if len(workers) > room:
            parts.append(Text(f"… and {len(workers) - room} more workers", "dim"))
        if not workers:
            parts.append(Text("no worker lives", "bold red"))
    return Group(*parts)


def _head(look: Look | None, url: str) -> Text:
    head = Text.assemble(("truthgpt top", "bold"), "  ", url, no_wrap=True, overflow="ellipsis")
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
    for place, wide in shown.items():
        table.add_column(
            columns[place].heading,
            justify="right" if columns[place].right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=wide,
        )
    for row in cells:
        table.add_row(*(_cut(row[at], wide, columns[at]) for at, wide in shown.items()))
    return table


def _fitting(
    columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int
) -> dict[int, int]:
    """The places of the columns that are shown, and how wide each is."""
    whole = [
        max(len(column.heading), *(row[place].cell_len for row in cells), 0)
        for place, column in enumerate(columns)
    ]
    shown = {
        place: min(whole[place], column.least) if column.least else whole[place]
        for place, column in enumerate(columns)
    }

    def room() -> int:
        return width - sum(shown.values()) - GAP * (len(shown) - 1)

    while room() < 0:
        last = max(shown, key=lambda place: columns[place].spare)
        if columns[last].spare == 0:
            break
        del shown[last]
    while room() > 0 and (cut := [place for place in shown if shown[place] < whole[place]]):
        # What is left goes to those that were cut, to the narrowest first.
        shown[min(cut, key=lambda place: shown[place])] += 1
    return shown


def _cut(cell: Text, width: int, column: Column) -> Text:
    over = cell.cell_len - width
    return Text("…").append_text(cell[over + 1 :]) if column.keep_end and over > 0 else cell


def _leftovers(stats: Row, width: int) -> list[Text]:
    """What stands beside the queues: on one line, where it has room."""
    dead, webhooks, cache = stats["dead_letters"], stats["webhooks"], stats.get("cache")
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"dead letters {dead}", "red" if dead else "")
    line.append(f"   webhooks waiting {webhooks['waiting']}")
    if webhooks["oldest_ms"] is not None:
        line.append(f", oldest {duration(webhooks['oldest_ms'])}")
    given_up = webhooks["given_up"]
    line.append(f", given up {given_up}", "red" if given_up else "")
    if cache is None:
        return [line]
    kept = Text(f"cache {cache['hits']} hits, {cache['misses']} misses")
    if line.cell_len + GAP + kept.cell_len > width:
        return [line, kept]
    return [line.append(" " * GAP).append_text(kept)]


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
    Column("Model", lambda row: Text(str(row["id"])), right=False, least=10),
    Column("State", _state, right=False, least=7),
    Column("Waiting", lambda row: Text(str(row["queue_depth"]))),
    Column("Oldest", _of_stats("oldest_ms")),
    Column("Drained in", _of_stats("drained_in_ms"), spare=4),
    Column("Running", lambda row: Text(str(row.get("running", 0))), spare=1),
    Column("Jobs/s", _pace("jobs")),
    Column("Tokens/s", _pace("tokens"), spare=2),
    Column("p50", _percentile("p50"), spare=5),
    Column("p95", _percentile("p95"), spare=3),
    Column("Failed", _failed, spare=6),
    Column("Breaker", _breaker, right=False),
)
WORKER_COLUMNS = (
    Column("Worker", lambda row: Text(_place(row)), right=False, least=11, keep_end=True),
    Column("Model", lambda row: Text(row["model"]), right=False, least=8),
    Column("State", _state, right=False, least=8),
    Column("Batch", _batch, right=False),
    Column(
        "Device",
        lambda row: Text(str((row.get("engine") or {}).get("device", ""))),
        right=False,
        spare=2,
    ),
    Column("Memory", lambda row: Text(_size(row.get("memory_bytes"))), spare=3),
    Column("Restarts", lambda row: Text(str(row.get("restarts", "")))),
    Column("Breaker", _breaker, right=False, spare=1),
)
