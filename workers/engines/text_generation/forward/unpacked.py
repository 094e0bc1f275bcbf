"""Decides how a model runs that cannot be packed: stacked, else one by one, as its logits turn out."""

from collections.abc import Callable
from collections.abc import Sequence as Items
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from workers.engines.loading.placement import Placement
from workers.engines.packed_attention import FAULTS
from workers.engines.row_blocks import wants_fixed_rows
from workers.engines.text_generation.forward.indexers import short_choices
from workers.engines.text_generation.forward.memory import rows_that_fit
from workers.engines.text_generation.forward.reading import empty_state, read
from workers.engines.text_generation.forward.rope import LengthDependence, length_dependence
from workers.engines.text_generation.forward.runner import Runner
from workers.engines.text_generation.forward.stacked.row_attention import Unstackable
from workers.engines.text_generation.forward.stacked.runner import StackedRunner
from workers.engines.text_generation.forward.stacked.states import keeps_anything
from workers.engines.text_generation.forward.static import StaticRunner
from workers.engines.text_generation.forward.trial import (
    SHORT_REACH,
    TOLERANCE,
    largest_error,
    plain_logits,
    raise_out_of_memory,
    random_texts,
    vocabulary_of,
)

CUTS = ((6, 1, 1, 1, 1, 1, 1), (0, 17, 1, 1, 1), (0, 0, 1, 1, 1, 1, 1, 1, 1))
"""How texts are cut into steps. They come and go at different times, and a prompt is run whole."""
GENERATED = 5
"""Tokens that transformers' own loop is asked for, where its cache does not do what a text alone does."""
WHOLE_PAST = (
    "its layers may need one text's whole past at once, and in company each one's lies apart"
)
"""Why layers fail that make masks or biases of all that a text has said."""
REREADS = "every token reads its whole text again"

R = TypeVar("R", StackedRunner, StaticRunner)


@dataclass(frozen=True, slots=True)
class Way:
    """How a model runs: `batching` is packed, stacked or static, `reason` says why.

    `state_bytes` is what each slot takes besides keys and values, however long its text is; `graphs` is how
    many shapes of steps are replayed as CUDA graphs; `rewind` is that of the cache, and `lengths` how
    positions depend on a text's length (see `PackedRunner`).
    """

    runner: Runner
    batching: str
    reason: str
    slots: int
    state_bytes: int = 0
    graphs: int = 0
    rewind: int | None = None
    lengths: LengthDependence | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """Texts, the steps that they are cut into, and their logits, one [length, vocabulary] a text."""

    texts: Items[Items[int]]
    logits: Items[torch.Tensor]
    cuts: Items[Items[int]]


def unpacked_runner(model: Any, placement: Placement, slots: int, length: int) -> Way:
    """The first way that gives the right logits, for texts of at most `length` tokens.

    Right is what a text alone gives in one pass. Some architectures compute a token that follows a cache
    otherwise; what `generate` says is right for them. Raises `ConfigError` when not even one text fits.
    """
    lengths = length_dependence(model)
    trial = _Trial(model, placement, slots, length if lengths is None else lengths.window)
    try:
        _check_reach(model, lengths, length)
        beyond = lengths if lengths is not None and length > lengths.window else None
        stacked = _stacked(trial, model, placement, beyond)
        states = stacked.bytes_of_states
        slots = rows_that_fit(slots, states, stacked.bytes_per_token * length, placement)
        return Way(stacked, "stacked", "stacked logits equal plain ones", slots, states)
    except FAULTS as error:
        raise_out_of_memory(error)
        fault = f"a stacked trial run failed: {WHOLE_PAST} ({error})"
    except Unstackable as error:
        fault = f"stacked, {error}"
    try:
        alone = trial.of(lambda: StaticRunner(model, placement.device, lengths=lengths))
        ids = torch.ones(1, 2, dtype=torch.long, device=placement.device)
        _, state = read(model, empty_state(model), ids, 0, 1)
        if not keeps_anything(state):
            fault += f"; it has no cache, {REREADS}"
        return Way(alone, "static", fault, slots)
    except FAULTS as error:
        raise_out_of_memory(error)
        fault += f"; with a cache, a trial run failed: {error}"
    except Unstackable as error:
        fault += f"; with a cache, {error}"
    rereading = StaticRunner(model, placement.device, cached=False, lengths=lengths)
    return Way(rereading, "static", f"{fault}; {REREADS}", slots)


def _stacked(
    trial: "_Trial", model: Any, placement: Placement, beyond: LengthDependence | None
) -> StackedRunner:
    """A runner that is right, over packed weights where they can be. Raises what `_Trial.of` does.

    In float32, indexers choose among few tokens for the time of the trial, which short texts then reach.
    """
    device = placement.device
    if wants_fixed_rows(device, model.dtype):
        try:
            return trial.of(lambda: StackedRunner(model, device, beyond))
        except (*FAULTS, Unstackable) as error:
            # A model may read the weights of its layers by itself.
            raise_out_of_memory(error)
        return trial.of(lambda: StackedRunner(model, device, beyond, packs=False))
    # In half precision tokens may be chosen by how a score was rounded, and be others in company.
    with short_choices(model, SHORT_REACH) if model.dtype == torch.float32 else nullcontext():
        return trial.of(lambda: StackedRunner(model, device, beyond))


class _Trial:
    """Holds runners against texts whose logits are known."""

    def __init__(self, model: Any, placement: Placement, slots: int, longest: int) -> None:
        self._model = model
        self._placement = placement
        self._slots = slots
        self._texts = random_texts(vocabulary_of(model), CUTS, longest)

    def of(self, make: Callable[[], R]) -> R:
        """A runner that is right by one of the references. Raises `Unstackable` otherwise."""
        off = 0.0
        for reference in (self._plain, self._generated):
            # Before there is a runner, which may change the model's attention.
            known = reference()
            runner = make()
            try:
                off = largest_error(known.texts, known.logits, runner, self._slots, known.cuts)
            except BaseException:
                runner.detach()
                raise
            for slot in range(self._slots):
                runner.release(slot, scrub=True)
            if off <= TOLERANCE[self._placement.dtype]:
                return runner
            runner.detach()
        raise Unstackable(f"its logits are off by {off:.2g} standard deviations")

    def _plain(self) -> Known:
        logits = [plain_logits(self._model, text, self._placement.device) for text in self._texts]
        return Known(self._texts, logits, CUTS)

    def _generated(self) -> Known:
        # Two of them, in turns: an architecture may keep what it has read in its own modules.
        prompts = self._texts[:2]
        made = [_generated(self._model, prompt, self._placement.device) for prompt in prompts]
        cuts = [(len(prompt), *[1] * GENERATED) for prompt in prompts]
        return Known([text for text, _ in made], [logits for _, logits in made], cuts)


def _check_reach(model: Any, lengths: LengthDependence | None, length: int) -> None:
    """What a short trial cannot show. Raises `Unstackable`."""
    if lengths is not None and lengths.restarts and length > lengths.window:
        raise Unstackable("a text that outgrows its first window is read again as a whole")
    config = model.config.get_text_config()
    if "chunked_attention" in set(getattr(config, "layer_types", None) or ()):
        reach = getattr(config, "attention_chunk_size", None) or 0
        if reach < length:
            raise Unstackable(f"its layers of chunked_attention reach {reach} of {length} tokens")


def _generated(
    model: Any, prompt: Items[int], device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """A text by transformers' own loop but its last token, and float32 [its length, vocabulary].

    Those of the prompt are zeros, save for its last token's.
    """
    ids = torch.tensor([prompt], device=device)
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=0,
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(found.logits).float()
    unknown = logits.new_zeros(len(prompt) - 1, logits.shape[1])
    return found.sequences[0, :-1].tolist(), torch.cat([unknown, logits])
