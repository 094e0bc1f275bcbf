"""The host's loop with engines that behave and engines that do not."""

import socket
import threading
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest

from shared.domain.models.catalog import ModelSpec
from tests.conftest import eventually
from tests.workers.faulty import Faulty
from workers.engines.base import Failed, Finished, Piece, Step
from workers.host.loop import Loop
from workers.host_protocol.channel import to_host, to_worker
from workers.host_protocol.messages import Cancel, Outcome, Stepped, Stop, Submit


class Host:
    """A loop in a thread, and what it reported."""

    def __init__(
        self, engine: Faulty | None = None, *, continues: bool = False, max_output: int = 0
    ) -> None:
        ours, theirs = socket.socketpair()
        self.channel = to_host(ours)
        self._theirs = to_worker(theirs)
        self.steps: list[Stepped] = []
        engine = engine or Faulty(ModelSpec(name="m", engine="tests.workers.faulty:Faulty"))
        self.loop = Loop(
            engine,
            self._theirs.receive,
            self.steps.append,
            continues=continues,
            max_output=max_output,
        )
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def submit(self, ticket: str, content: object, seconds: float = 60, **fields: object) -> None:
        request = msgspec.json.encode({"content": content, "params": {}, "seed": 5})
        self.channel.post([Submit(ticket, request, seconds, "expired", **fields)])  # type: ignore[arg-type]

    def outcome(self, ticket: str) -> Outcome:
        def find() -> Outcome | None:
            return next((o for s in self.steps for o in s.outcomes if o.ticket == ticket), None)

        eventually(find, what=f"an outcome of {ticket}")
        found = find()
        assert found is not None
        return found

    def text(self, ticket: str) -> str:
        return "".join(p.text for s in self.steps for p in s.pieces if p.ticket == ticket)

    def stop(self) -> None:
        self.channel.post([Stop()])
        self.thread.join(timeout=5)
        assert not self.thread.is_alive()
        self.channel.close()
        self._theirs.close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.stop()


def test_jobs_finish_with_their_output(host: Host) -> None:
    host.submit("a", "hello")
    assert msgspec.json.decode(host.outcome("a").output) == {"text": "hello", "seed": 5}


def test_pieces_come_before_the_outcome(host: Host) -> None:
    host.submit("a", "slow 10")
    host.outcome("a")
    assert host.text("a") == "abcdefghij"


def test_a_resumed_attempt_says_only_the_rest(host: Host) -> None:
    host.submit("a", "slow 10", text="abcd", token_ids=(0, 1, 2, 3))
    host.outcome("a")
    assert host.text("a") == "efghij"


def test_refused_input_touches_nobody(host: Host) -> None:
    host.submit("a", "slow 20")
    host.submit("b", "refuse")
    assert (host.outcome("b").kind, host.outcome("b").code) == ("failed", "invalid_input")
    assert host.outcome("a").kind == "finished"


@pytest.mark.parametrize("way", ["raise", "quit"])
def test_an_admission_that_raises_ends_its_job_and_says_nothing_of_the_engine(
    host: Host, way: str
) -> None:
    host.submit("a", "slow 20")
    host.submit("b", f"{way} on admission")
    bad = host.outcome("b")
    assert (bad.kind, bad.code, bad.doubt) == ("failed", "poison_input", "")
    assert host.outcome("a").kind == "finished"


def test_who_fails_beside_others_that_go_well_says_nothing_of_the_engine(host: Host) -> None:
    host.submit("lone", "break")
    assert host.outcome("lone").doubt == "new", "nothing has gone well yet"
    host.submit("a", "fine")
    host.outcome("a")
    host.submit("b", "break")
    assert (host.outcome("b").code, host.outcome("b").doubt) == ("engine_error", "")


def test_output_that_is_too_large_ends_its_job_alone() -> None:
    host = Host(max_output=100)
    host.submit("whole", "blob 100")
    host.submit("streamed", "slow 2000")
    host.submit("fits", "slow 30")
    for ticket in ("whole", "streamed"):
        end = host.outcome(ticket)
        assert (end.kind, end.code) == ("failed", "output_too_large")
        assert "100 bytes (MAX_OUTPUT_BYTES)" in end.message and not end.doubt
    assert host.outcome("fits").kind == "finished"
    assert len(host.text("streamed")) == 100
    host.stop()


def test_a_row_that_breaks_ends_alone(host: Host) -> None:
    host.submit("a", "slow 20")
    host.submit("b", "break")
    assert host.outcome("b").code == "engine_error"
    assert host.outcome("a").kind == "finished"


def test_a_step_that_raises_fails_its_jobs_and_the_loop_lives(host: Host) -> None:
    host.submit("a", "raise")
    assert host.outcome("a").code == "engine_error"
    host.submit("b", "fine")
    assert host.outcome("b").kind == "finished"


def test_a_step_that_one_job_makes_fail_ends_that_job_only() -> None:
    host = Host(continues=True)
    host.submit("a", "slow 50")
    eventually(lambda: host.text("a"))
    host.submit("b", "raise")
    assert host.outcome("b").code == "poison_input"
    assert host.outcome("a").kind == "finished"
    assert msgspec.json.decode(host.outcome("a").output)["text"] == host.text("a")
    host.stop()


def test_output_that_is_no_json_fails_its_job(host: Host) -> None:
    host.submit("a", "object")
    assert host.outcome("a").code == "engine_error"


def test_a_piece_that_is_no_json_fails_its_job_and_the_loop_lives(host: Host) -> None:
    host.submit("a", "utter")
    host.submit("b", "slow 10")
    assert host.outcome("a").code == "engine_error"
    assert host.outcome("b").kind == "finished"
    host.channel.post([Cancel("a")])
    host.submit("c", "fine")
    assert host.outcome("c").kind == "finished"
    assert sum(o.ticket == "a" for s in host.steps for o in s.outcomes) == 1


def test_a_cancel_is_confirmed_once_the_engine_has_let_go(host: Host) -> None:
    host.submit("a", "slow 100000")
    eventually(lambda: host.text("a"))
    host.channel.post([Cancel("a")])
    assert host.outcome("a").kind == "canceled"
    assert host.loop.pending == 0
    host.channel.post([Cancel("a")])
    host.submit("b", "fine")
    assert host.outcome("b").kind == "finished"


def test_time_limits_free_the_slot(host: Host) -> None:
    host.submit("a", "slow 100000", seconds=0.05)
    host.submit("b", "slow 100000", seconds=0.06)
    assert host.outcome("a").kind == "expired"
    assert host.outcome("b").kind == "expired"
    assert host.loop.pending == 0


def test_the_time_of_all_steps_is_that_of_all_jobs(host: Host) -> None:
    for number in range(4):
        host.submit(f"j{number}", f"slow {5 * (number + 1)}")
    host.submit("raises", "raise")
    host.submit("canceled", "slow 100000")
    eventually(lambda: host.text("canceled"))
    host.channel.post([Cancel("canceled")])
    tickets = ("j0", "j1", "j2", "j3", "raises", "canceled")
    outcomes = [host.outcome(ticket) for ticket in tickets]

    assert all(outcome.device_seconds > 0 for outcome in outcomes)
    charged = sum(outcome.device_seconds for outcome in outcomes)
    assert charged == pytest.approx(host.loop.meter.busy)


class Patient(Faulty):
    """Waits for a second job, for ever if need be, and writes down how many ran together."""

    def __init__(self) -> None:
        super().__init__(ModelSpec(name="m", engine="tests.workers.faulty:Patient"))
        self.sizes: list[int] = []

    def batch_delay(self) -> float:
        return 3600.0 if self.pending() < 2 else 0.0

    def step(self) -> Step:
        self.sizes.append(self.pending())
        return super().step()


def test_the_loop_waits_for_company_as_long_as_the_engine_says() -> None:
    engine = Patient()
    host = Host(engine)
    host.submit("a", "fine", seconds=3600)
    host.submit("b", "fine", seconds=3600)
    host.outcome("b")
    host.stop()

    assert engine.sizes == [2]


def test_no_job_expires_while_the_engine_waits_for_company() -> None:
    engine = Patient()
    host = Host(engine)
    host.submit("a", "fine", seconds=1.0)

    assert host.outcome("a").kind == "finished"
    host.stop()


class Boastful(Faulty):
    """Says of its jobs what the content of the last one says."""

    def step(self) -> Step:
        step = super().step()
        return Step(
            outcomes=[
                msgspec.structs.replace(end, usage=msgspec.json.decode(end.output["text"]))
                if isinstance(end, Finished)
                else end
                for end in step.outcomes
            ]
        )


class Odd(Faulty):
    """Says of each job what only an engine of one's own says."""

    def step(self) -> Step:
        pieces = [
            Piece("surrogate", "\ud800"),
            Piece("token", "a", ("one",)),  # type: ignore[arg-type]
            Piece("numpy", "a", (np.int64(1),)),  # type: ignore[arg-type]
        ]
        outcomes: list[Finished | Failed] = [
            Failed("code", "no_such_code", "odd"),
            Finished("nan", {"x": float("nan")}),
            Finished("numpy", {"x": [np.float32(1.5)]}, {"tokens": np.int64(3)}),  # type: ignore[dict-item]
        ]
        here = set(self._works)
        for outcome in outcomes:
            self.cancel(outcome.id)
        return Step(
            [piece for piece in pieces if piece.id in here],
            [outcome for outcome in outcomes if outcome.id in here],
        )


def test_whatever_an_engine_of_ones_own_says_the_loop_lives() -> None:
    host = Host(Odd(ModelSpec(name="m", engine="tests.workers.faulty:Faulty")))
    for ticket in ("surrogate", "token", "code", "nan", "numpy"):
        host.submit(ticket, "fine")
    ends = {name: host.outcome(name) for name in ("surrogate", "token", "code", "nan", "numpy")}
    fine = ends.pop("numpy")
    assert {end.code for end in ends.values()} == {"engine_error"}
    assert "no_such_code" in ends["code"].message and "not a number" in ends["nan"].message
    assert (fine.output, fine.usage) == (b'{"x":[1.5]}', {"tokens": 3})
    assert host.text("numpy") == "a"
    host.stop()


@pytest.mark.parametrize(
    "usage", ['{"n":1.5}', '{"n":-1}', '{"n":1e30}', '{"n":"x"}', '{"n":null}']
)
def test_a_usage_that_is_no_count_ends_its_job_alone(usage: str) -> None:
    host = Host(Boastful(ModelSpec(name="m", engine="tests.workers.faulty:Faulty")))
    host.submit("bad", usage)
    host.submit("good", '{"prompt_tokens":7}')
    bad, good = host.outcome("bad"), host.outcome("good")
    assert (bad.kind, bad.code) == ("failed", "engine_error")
    assert bad.message.startswith("The engine's usage: n must be")
    assert (good.kind, good.usage) == ("finished", {"prompt_tokens": 7})
    host.stop()
