"""Texts side by side with states stacked by row: nobody's numbers depend on who shares the step."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.conftest import by_turns
from tests.zoo.models import VOCABULARY
from tests.zoo.table import STACKED
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.forward.stacked.runner import StackedRunner
from workers.engines.texts.sampling import Sampling
from workers.engines.texts.sequence import Sequence

pytestmark = pytest.mark.explores

CPU = torch.device("cpu")
FAMILIES = [
    "mamba2",
    "falcon_h1",
    "qwen3_next",
    "recurrent_gemma",
    "minimax",
    "kimi_linear",
    "glm_moe_dsa",
]
"""State spaces alone, beside attention, and with it in turns; states in modules; a cache of its own; MLA;
tokens that an indexer chooses."""
PROMPTS = (3, 11, 1, 26, 7)
STEPS = 6


@pytest.fixture(
    scope="module",
    params=by_turns(FAMILIES, (torch.float32, torch.bfloat16)),
    ids=str,
)
def runner(request: pytest.FixtureRequest) -> Iterator[StackedRunner]:
    torch.set_num_threads(1)
    family, dtype = request.param
    with torch.inference_mode():
        yield StackedRunner(STACKED[family].make().to(dtype), CPU)


class Text:
    """A random text in a slot, fed to a runner step by step."""

    def __init__(self, slot: int) -> None:
        generator = torch.Generator().manual_seed(slot)
        size = PROMPTS[slot] + STEPS
        self.slot = slot
        self.text = torch.randint(VOCABULARY, (size,), generator=generator).tolist()
        prompt = self.text[: PROMPTS[slot]]
        self.sequence = Sequence(str(slot), prompt, len(prompt), STEPS, Sampling(seed=0))
        self.read = 0

    def chunk(self) -> Chunk:
        return Chunk(self.sequence, self.slot, self.read, len(self.sequence.tokens) - self.read)

    def go_on(self) -> None:
        """The step has succeeded; the next token is known."""
        self.read = len(self.sequence.tokens)
        self.sequence.tokens.append(self.text[self.read])


def step(runner: StackedRunner, texts: list[Text]) -> dict[int, torch.Tensor]:
    """Logits by slot; every text goes on."""
    rows, logits = runner.run([text.chunk() for text in texts])
    for text in texts:
        text.go_on()
    return {int(row.sequence.id): line for row, line in zip(rows, logits, strict=True)}


def alone(runner: StackedRunner, slot: int) -> list[torch.Tensor]:
    text = Text(slot)
    found = [step(runner, [text])[slot] for _ in range(STEPS)]
    runner.release(slot, scrub=False)
    return found


def assert_same(found: torch.Tensor, expected: torch.Tensor, runner: StackedRunner) -> None:
    if runner.dtype == torch.bfloat16:
        assert torch.equal(found, expected)
    else:
        # As for packed rows: the order of additions is a library's, by the number of rows.
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.fixture(autouse=True)
def emptied(runner: StackedRunner) -> Iterator[None]:
    with torch.inference_mode():
        yield
    for slot in range(len(PROMPTS)):
        runner.release(slot, scrub=True)


def test_rows_that_come_and_go_have_the_logits_that_they_have_alone(runner: StackedRunner) -> None:
    expected = {slot: alone(runner, slot) for slot in range(len(PROMPTS))}
    texts = {slot: Text(slot) for slot in range(len(PROMPTS))}

    for turn, slots in enumerate([[0], [0, 1, 2], [1, 2, 3], [3, 0], [4, 3, 2, 1, 0], [4, 1]]):
        counts = {slot: len(texts[slot].sequence.tokens) - PROMPTS[slot] for slot in slots}
        found = step(runner, [texts[slot] for slot in slots])
        for slot in slots:
            assert_same(found[slot], expected[slot][counts[slot]], runner)
        if turn == 3:
            runner.release(0, scrub=True)
            texts[0] = Text(0)


def test_a_row_that_is_no_number_touches_no_other(runner: StackedRunner) -> None:
    expected = [alone(runner, slot) for slot in range(3)]
    texts = [Text(slot) for slot in range(3)]
    step(runner, texts)
    poisoned = runner._pasts[1]
    for tensor in poisoned.states:
        tensor[:] = float("nan")
    for keys in poisoned.keys:
        keys._keys = torch.full_like(keys._keys, float("nan"))

    for turn in range(1, 4):
        found = step(runner, texts)
        assert found[1].isnan().all()
        assert_same(found[0], expected[0][turn], runner)
        assert_same(found[2], expected[2][turn], runner)


def test_a_step_that_fails_leaves_every_row_where_it_was(
    runner: StackedRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [alone(runner, slot) for slot in range(3)]
    texts = [Text(slot) for slot in range(3)]
    step(runner, texts[:2])
    head = runner._model.get_output_embeddings()

    def broken(*_: Any) -> Any:
        raise RuntimeError("broken at the very end")

    with monkeypatch.context() as patched:
        patched.setattr(head, "forward", broken)
        with pytest.raises(RuntimeError, match="very end"):
            runner.run([text.chunk() for text in texts])
    # A step may also be given up after it has run.
    runner.run([text.chunk() for text in texts])
    runner.undo([text.chunk() for text in texts])

    found = step(runner, texts)
    for slot, turn in ((0, 1), (1, 1), (2, 0)):
        assert_same(found[slot], expected[slot][turn], runner)


def test_a_text_that_was_begun_elsewhere_is_made_again_token_by_token(
    runner: StackedRunner,
) -> None:
    expected = alone(runner, 1)
    begun = Text(1)
    begun.sequence.tokens = begun.text[: PROMPTS[1] + STEPS - 1]

    rows, logits = runner.run([begun.chunk()])

    assert [row.position for row in rows] == [PROMPTS[1] + STEPS - 2]
    assert torch.equal(logits[0], expected[-1])


def test_a_prompt_in_chunks_is_read_when_it_is_whole(runner: StackedRunner) -> None:
    expected = alone(runner, 3)
    text = Text(3)

    rows, _ = runner.run([Chunk(text.sequence, 3, 0, 20)])
    assert rows == []
    rows, logits = runner.run([Chunk(text.sequence, 3, 20, PROMPTS[3] - 20)])

    assert [row.position for row in rows] == [PROMPTS[3] - 1]
    assert torch.equal(logits[0], expected[0])
