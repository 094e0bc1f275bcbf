"""The text generation engine: schedule, run, sample, detokenise, and only then commit."""

import logging
from collections.abc import Sequence as Items
from functools import partial
from typing import Any

import msgspec
import torch

from shared.domain.errors import InputRefused
from shared.domain.models.catalog import ModelSpec
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work
from workers.engines.batching.budget import Budget
from workers.engines.batching.intake import Intake
from workers.engines.batching.reader import LONG
from workers.engines.loading.local_model import read_json, trusted_directory
from workers.engines.loading.placement import Placement, place
from workers.engines.loading.pretrained import read
from workers.engines.loading.text_part import TextPart
from workers.engines.text_generation.assembly import assemble
from workers.engines.text_generation.chunk import Chunk
from workers.engines.text_generation.families import auto_model_of
from workers.engines.text_generation.forward.runner import Runner
from workers.engines.text_generation.grammar.masks import Masks, spare_threads
from workers.engines.text_generation.grammar.matchers import Grammars
from workers.engines.text_generation.sampling import sampler
from workers.engines.text_generation.turns import Listener, Turn
from workers.engines.texts.choices import Choices
from workers.engines.texts.chunks import Chunk as Said
from workers.engines.texts.input_validator import length_of
from workers.engines.texts.logprobs import namer, to_json
from workers.engines.texts.pieces import piece_of, read_as_messages
from workers.engines.texts.replies import Replies
from workers.engines.texts.sequence import NO_SLOT, Sequence

_log = logging.getLogger(__name__)


class TextGeneration:
    """Any causal language model of transformers in a local directory."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self.taken: Items[str] = ()
        self._own = spec.name if spec.base is not None else ""
        """The adapter of jobs that name none."""
        self._jobs: dict[str, Choices] = {}
        self._sequences: dict[str, Sequence] = {}
        """The texts that are being made, of all jobs."""
        self._intake = Intake(self._begin)
        self._ended: dict[str, str] = {}
        """Texts that an earlier attempt had finished, with the reason; they need no step."""

    @torch.inference_mode()
    def load(self) -> EngineInfo:
        """See `Engine.load`."""
        path = trusted_directory(self._spec)
        placement = place(self._spec)
        where = f"models.{self._spec.name}.path"
        auto_model = auto_model_of(path, where)
        read_json(path / "generation_config.json", where)
        tokenizer, model = read(auto_model, path, placement, where)
        if isinstance(auto_model, TextPart):
            auto_model.check(model, where)
        return self.serve(tokenizer, model, placement)

    @torch.inference_mode()
    def serve(self, tokenizer: Any, model: Any, placement: Placement) -> EngineInfo:
        """Serve a model that is in its place. Raises `ConfigError` when not even one sequence fits."""
        parts = assemble(self._spec, self._own, tokenizer, model, placement)
        self._runner: Runner = parts.way.runner
        self._name = namer(parts.detokenizer.vocabulary)
        self._grammars = Grammars(tokenizer, parts.vocabulary, parts.ends)
        self._masks = Masks(self._grammars.words, spare_threads(placement.device))
        self._replies = Replies(tokenizer, parts.detokenizer.vocabulary)
        self._listener = Listener(parts.detokenizer)
        self._validators = parts.validators
        self._scheduler = parts.scheduler
        self.budget = Budget(self._scheduler.budget)
        return parts.info

    def admit(self, work: Work) -> None:
        if work.id in self._jobs or work.id in self._intake:
            raise InputRefused(f"The job {work.id} is here already.")
        if not work.adapter and self._own:
            work = msgspec.structs.replace(work, adapter=self._own)
        known = self._grammars.knows(self._replies.grammar(work))
        # A grammar is compiled where long inputs are read, so that no text waits for it.
        size = length_of(work.content) if known else max(length_of(work.content), LONG + 1)
        self._intake.admit(work, size, partial(self._read, work))

    def _read(self, work: Work) -> list[int]:
        self._grammars.compile(self._replies.grammar(work))
        return self._validators[work.adapter].read(work)

    def _begin(self, work: Work, prompt: list[int]) -> None:
        sequences = self._validators[work.adapter].sequences(work, prompt)
        grammar = self._replies.grammar(work)
        for sequence in sequences:
            said = sequence.tokens[sequence.prompt_length :]
            sequence.matcher = self._grammars.matcher(grammar, said, sequence.ends)
        read_as_messages(sequences, self._replies, work, prompt, self._listener.detokenizer)
        self._jobs[work.id] = Choices(sequences)
        for sequence in sequences:
            self._sequences[sequence.id] = sequence
            if sequence.ended is not None and sequence.wanted >= len(sequence.tokens) - 1:
                self._ended[sequence.id] = sequence.ended
            else:
                self._scheduler.add(sequence)

    def cancel(self, job_id: str) -> None:
        self._intake.cancel(job_id)
        job = self._jobs.pop(job_id, None)
        for sequence in job.living if job is not None else ():
            self._let_go(sequence, scrub=True)

    @torch.inference_mode()
    def step(self) -> Step:
        """One iteration: a token for every sequence that decodes, and some prefill beside them."""
        self._scheduler.budget = int(self.budget.now)
        self.taken = ()
        self._intake.take_in()
        chunks = self._scheduler.plan()
        self.taken = list(dict.fromkeys(chunk.sequence.job for chunk in chunks))
        self.budget.spend(sum(chunk.length for chunk in chunks), least=1)
        self._scheduler.begin(chunks)
        turns = self._turns(chunks) if chunks else []
        # Nothing above has changed any sequence, and nothing below can fail.
        self._scheduler.commit(chunks, _accepted(turns))
        shares: dict[str, float] = {}
        for chunk in chunks:
            shares[chunk.sequence.job] = shares.get(chunk.sequence.job, 0.0) + chunk.length
        step = Step(batch_size=len(chunks), shares=shares)
        step.outcomes.extend(self._intake.refusals())
        for name, reason in list(self._ended.items()):
            self._tell(self._sequences[name], Said(), step, reason)
        for turn in turns:
            self._commit(turn, step)
        return step

    def pending(self) -> int:
        return len(self._jobs) + len(self._intake)

    def batch_delay(self) -> float:
        """A newcomer joins at the next token anyway; prompts that are being read are waited for."""
        return self._intake.batch_delay(busy=bool(self._jobs))

    def _turns(self, chunks: Items[Chunk]) -> list[Turn]:
        """What the step says. When it raises, nobody will meet what it has written into slots."""
        masks = self._masks.begin(chunks)
        try:
            rows, logits = self._runner.run(chunks)
            draws = [row.sequence.draw(row.position, row.draft) for row in rows]
            allowed = masks.join(rows) if masks is not None else None
            chosen = sampler.choose(logits, draws, allowed)
            turns = list(self._listener.turns(rows, chosen))
            if None in chosen.tokens:
                # What is no number must not stay behind a text, where masked places are multiplied by 0.
                right = _accepted(turns)
                drafting = [chunk for chunk in chunks if chunk.draft]
                self._runner.undo([c.behind(right[c.sequence.id]) for c in drafting])
            return turns
        except BaseException:
            if masks is not None:
                masks.abandon()
            self._runner.undo(chunks)
            raise

    def _commit(self, turn: Turn, step: Step) -> None:
        sequence = turn.sequence
        if sequence.job not in self._jobs:
            return  # Another one of its job's texts has failed in this step.
        if turn.broken:
            self.cancel(sequence.job)
            message = "The model's output for this job is not a number (NaN or infinity)."
            step.outcomes.append(Failed(sequence.job, "engine_error", message))
            return
        sequence.scores += turn.scores
        sequence.tokens += turn.tokens
        if sequence.matcher is not None:
            for token in turn.tokens:
                sequence.matcher.take(token)
        sequence.spoken = turn.spoken
        self._tell(sequence, turn.said, step, turn.reason)

    def _tell(self, sequence: Sequence, said: Said, step: Step, reason: str | None) -> None:
        if (piece := piece_of(sequence, said, self._name, reason or "")) is not None:
            step.pieces.append(piece)
        if reason is not None:
            self._finish(sequence, reason, step)

    def _finish(self, sequence: Sequence, reason: str, step: Step) -> None:
        self._let_go(sequence, scrub=False)
        output: dict[str, Any] = {"text": "".join(sequence.text), "finish_reason": reason}
        if sequence.sampling.logprobs is not None:
            output["logprobs"] = to_json(sequence.scores, self._name, alone=sequence.alone)
        job = self._jobs[sequence.job]
        job.end(sequence, output)
        if job.complete:
            del self._jobs[sequence.job]
            step.outcomes.append(Finished(sequence.job, job.output, job.usage))

    def _let_go(self, sequence: Sequence, *, scrub: bool) -> None:
        del self._sequences[sequence.id]
        if self._ended.pop(sequence.id, None) is not None:
            return
        slot = self._scheduler.remove(sequence, forget=scrub)
        if slot != NO_SLOT:
            self._runner.release(slot, scrub=scrub)


def _accepted(turns: Items[Turn]) -> dict[str, int]:
    """How many tokens of each sequence's draft were right."""
    return {turn.sequence.id: turn.accepted for turn in turns}
