from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.workers.engines.text_generation.speculation.conftest import FREE
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.scheduler import Scheduler
from workers.engines.text_generation.speculation.drafter import Drafter
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import NO_SLOT, Sequence


def sequence(name: str, prompt: int, new: int = 3) -> Sequence:
    return Sequence(name, [1] * prompt, prompt, new, Sampling(seed=0))


def run(
    scheduler: Scheduler, chunks: list[Chunk], draw: Callable[[], int] = lambda: 2
) -> list[Sequence]:
    """Commit a step; every sequence that samples gets a token, more if its draft is right, or is done."""
    done = []
    said: dict[str, list[int]] = {}
    for chunk in chunks:
        if chunk.samples:
            said[chunk.sequence.id] = tokens = [draw()]
            while chunk.draft[len(tokens) - 1 : len(tokens)] == (tokens[-1],):
                tokens.append(draw())
    scheduler.commit(chunks, {name: len(tokens) - 1 for name, tokens in said.items()})
    for chunk in chunks:
        each = chunk.sequence
        each.tokens += said.get(each.id, [])
        assert each.generated <= each.max_new_tokens
        if each.generated == each.max_new_tokens:
            scheduler.remove(each)
            done.append(each)
    return done


def test_decodes_come_first_and_prefill_fills_the_budget() -> None:
    scheduler = Scheduler(slots=4, budget=30)
    first, second = sequence("first", 10), sequence("second", 100)
    scheduler.add(first)
    run(scheduler, scheduler.plan())
    scheduler.add(second)

    chunks = scheduler.plan()

    assert [(c.sequence.id, c.start, c.length) for c in chunks] == [
        ("first", 10, 1),
        ("second", 0, 29),
    ]


def test_a_text_that_was_begun_is_read_as_it_was_made() -> None:
    scheduler = Scheduler(slots=2, budget=18, as_made=True)
    begun = Sequence("begun", [1] * 24, 20, 9, Sampling(seed=0))
    scheduler.add(begun)

    spans = []
    for _ in range(7):
        [chunk] = chunks = scheduler.plan()
        spans.append((chunk.start, chunk.end))
        run(scheduler, chunks)

    assert spans == [(0, 18), (18, 20), (20, 21), (21, 22), (22, 23), (23, 24), (24, 25)]


def test_planning_changes_nothing() -> None:
    scheduler = Scheduler(slots=2, budget=20)
    for n in range(3):
        scheduler.add(sequence(str(n), 12))

    plans = [scheduler.plan() for _ in range(3)]

    assert plans[0] == plans[1] == plans[2]
    assert all(chunk.sequence.slot == NO_SLOT for chunk in plans[0])


def test_whoever_waits_longest_gets_the_slot_that_falls_free() -> None:
    scheduler = Scheduler(slots=1, budget=64)
    one, two, three = (sequence(name, 4) for name in ("one", "two", "three"))
    for each in (one, two, three):
        scheduler.add(each)
    run(scheduler, scheduler.plan())

    assert scheduler.remove(one) == 0

    assert [chunk.sequence.id for chunk in scheduler.plan()] == ["two"]


def test_a_small_budget_never_starves_prompts() -> None:
    scheduler = Scheduler(slots=8, budget=1)
    for n in range(7):
        scheduler.add(sequence(str(n), 1, new=1000))
    run(scheduler, scheduler.plan())
    scheduler.add(sequence("late", 50))

    assert scheduler.plan()[-1].sequence.id == "late"


@settings(deadline=None, max_examples=examples(100))
@given(
    slots=st.integers(1, 5),
    budget=st.integers(1, 40),
    prompts=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    actions=st.lists(st.sampled_from(["add", "step", "fail", "cancel"]), max_size=60),
    pick=st.randoms(use_true_random=False),
    reuse=st.booleans(),
    new=st.sampled_from([3, 20]),
    drafts=st.booleans(),
)
def test_every_token_is_run_once_in_order_in_a_slot_of_its_own(
    slots: int,
    budget: int,
    prompts: list[int],
    actions: list[str],
    pick: Random,
    reuse: bool,
    new: int,
    drafts: bool,
) -> None:
    drafter = Drafter(FREE, 1, 15) if drafts else None
    scheduler = Scheduler(slots, budget, reuse=reuse, drafter=drafter)
    waiting = [sequence(str(n), size, new) for n, size in enumerate(prompts)]
    inside: list[Sequence] = []
    progress: dict[str, int] = {}
    contents: list[list[int]] = [[] for _ in range(slots)]

    def step(commit: bool) -> None:
        chunks = scheduler.plan()
        scheduler.begin(chunks)
        assert bool(chunks) is bool(inside)
        assert sum(chunk.length for chunk in chunks) <= scheduler.budget
        taken = [chunk.slot for chunk in chunks]
        assert len(set(taken)) == len(taken)
        assert all(0 <= slot < slots for slot in taken)
        owned = {each.slot for each in inside if each.slot != NO_SLOT}
        for chunk in chunks:
            assert chunk.slot == chunk.sequence.slot or chunk.slot not in owned
            if chunk.sequence.id in progress or not reuse:
                assert chunk.start == progress.get(chunk.sequence.id, 0)
            if chunk.source != NO_SLOT:
                assert contents[chunk.source][: chunk.start] == chunk.sequence.tokens[: chunk.start]
                contents[chunk.slot] = list(contents[chunk.source][: chunk.start])
            elif chunk.sequence.slot == NO_SLOT:
                assert chunk.start == 0
        for chunk in chunks:
            # Whether the step fails or not, its slots are written.
            contents[chunk.slot][chunk.start :] = chunk.tokens
        decoding = {s.id for s in inside if s.slot != NO_SLOT and len(s.tokens) - s.cached == 1}
        assert decoding <= {chunk.sequence.id for chunk in chunks}
        if commit:
            done = run(scheduler, chunks, lambda: pick.choice([1, 1, 2]))
            for chunk in chunks:
                each = chunk.sequence
                assert chunk.start < each.cached <= chunk.end
                # What counts as cached is what was run of this text, and not of a draft that was wrong.
                assert contents[chunk.slot][: each.cached] == each.tokens[: each.cached]
                progress[each.id] = each.cached
            for each in done:
                inside.remove(each)

    for action in actions:
        if action == "add" and waiting:
            inside.append(waiting.pop(0))
            scheduler.add(inside[-1])
        elif action == "cancel" and inside:
            gone = inside.pop(pick.randrange(len(inside)))
            scheduler.remove(gone)
            assert gone.slot == NO_SLOT
        else:
            step(commit=action != "fail")
    for _ in range(1000):
        if not inside:
            break
        step(commit=True)
    assert len(scheduler) == 0
    assert scheduler.plan() == []
    assert drafter is None or len(drafter) == 0


def test_drafts_take_what_prompts_leave_of_the_budget() -> None:
    scheduler = Scheduler(slots=3, budget=30, drafter=Drafter(FREE, 2, 15))
    looping = [sequence(name, 10, new=90) for name in ("first", "second")]
    for each in looping:
        scheduler.add(each)
        run(scheduler, scheduler.plan(), lambda: 1)

    def planned() -> list[tuple[str, int, int]]:
        return [(c.sequence.id, c.length, len(c.draft)) for c in scheduler.plan()]

    assert all(draft > 0 for _, _, draft in planned())
    scheduler.add(sequence("prompt", 26))
    assert planned() == [("first", 3, 2), ("second", 1, 0), ("prompt", 26, 0)]
    scheduler.plan()[0].sequence.speculates = False
    assert planned() == [("first", 1, 0), ("second", 3, 2), ("prompt", 26, 0)]
