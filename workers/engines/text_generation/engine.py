"""The text generation engine: schedule, run, sample, detokenise, and only then commit."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from shared.catalog import ModelSpec
from shared.errors import ConfigError, InputRefused
from workers.engines.base import Broke, EngineInfo, Finished, Piece, Step, Work
from workers.engines.local_model import trusted_directory
from workers.engines.packed_attention import Unpackable
from workers.engines.placement import place
from workers.engines.pretrained import read
from workers.engines.text_generation import sampler
from workers.engines.text_generation.detokenizer import Chunk as Said
from workers.engines.text_generation.detokenizer import Detokenizer, Spoken
from workers.engines.text_generation.door import Door
from workers.engines.text_generation.packing import packed_runner, static_runner
from workers.engines.text_generation.runner import Runner
from workers.engines.text_generation.scheduler import Scheduler
from workers.engines.text_generation.scores import Score, namer, told
from workers.engines.text_generation.sequence import NO_SLOT, Row, Sequence

AUTO_BUDGET = {"cuda": 2048, "cpu": 256}
"""Tokens in one step: as many as cost little more than the pass over the weights does anyway."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one sampled token means for its sequence, before anything has changed.

    `scores` are those that this step brought: of the token, and of tokens of an earlier attempt.
    `broken`: the model's numbers are none.
    """

    sequence: Sequence
    spoken: Spoken
    token: int | None = None
    said: Said = field(default_factory=Said)
    reason: str | None = None
    scores: list[Score] = field(default_factory=list)
    broken: bool = False


class TextGeneration:
    """Any causal language model of transformers in a local directory."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._sequences: dict[str, Sequence] = {}
        self._ended: dict[str, str] = {}
        """Jobs that an earlier attempt had finished, with the reason; they need no step."""

    @torch.inference_mode()
    def load(self) -> EngineInfo:
        """Read the model, find out whether it can be packed, and set up its cache."""
        path = trusted_directory(self._spec)
        placement = place(self._spec)
        where = f"models.{self._spec.name}.path"
        tokenizer, model = read(AutoModelForCausalLM, path, placement, where)
        limits = self._spec.limits
        context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        length = limits.max_prompt_tokens + limits.max_new_tokens
        length = min(length, context) if context else length
        slots, reason = self._spec.batch.max_size, "packed logits equal plain ones"
        try:
            runner, slots = packed_runner(model, placement, slots, length)
            self._runner: Runner = runner
            batching = "packed"
        except Unpackable as error:
            self._runner = static_runner(model, placement, slots)
            batching, reason = "static", str(error)
        except ConfigError as error:
            raise ConfigError(f"models.{self._spec.name}: {error.detail}") from None
        budget = self._spec.batch.token_budget
        if budget == "auto":
            budget = AUTO_BUDGET.get(placement.device.type, 256)
        reuse = self._spec.batch.prefix_reuse and batching == "packed"
        self._scheduler = Scheduler(slots, budget, reuse=reuse)
        self._detokenizer = Detokenizer.of(tokenizer)
        self._name = namer(tokenizer)
        self._eos = _eos_tokens(model, tokenizer)
        vocabulary = int(model.get_input_embeddings().num_embeddings)
        self._door = Door(tokenizer, self._detokenizer, limits, vocabulary, context)
        return EngineInfo(
            # A few more than there are slots, so that a slot that falls free is taken in the next step.
            capacity=slots + max(1, slots // 4),
            continues=True,
            device=str(placement.device),
            dtype=placement.dtype_name,
            details={
                "batching": batching,
                "reason": reason,
                "slots": slots,
                "slot_tokens": length,
                "token_budget": self._scheduler.budget,
                "prefix_reuse": reuse,
            },
        )

    def admit(self, work: Work) -> None:
        if work.id in self._sequences:
            raise InputRefused(f"The job {work.id} is here already.")
        sequence = self._door.admit(work)
        self._sequences[work.id] = sequence
        if sequence.ended is not None and sequence.wanted >= len(sequence.tokens) - 1:
            self._ended[work.id] = sequence.ended
        else:
            self._scheduler.add(sequence)

    def cancel(self, job_id: str) -> None:
        sequence = self._sequences.get(job_id)
        if sequence is not None:
            self._let_go(sequence, scrub=True)

    @torch.inference_mode()
    def step(self) -> Step:
        """One iteration: a token for every sequence that decodes, and some prefill beside them."""
        chunks = self._scheduler.plan()
        self._scheduler.begin(chunks)
        turns: list[Turn] = []
        if chunks:
            rows, logits = self._runner.run(chunks)
            draws = [row.sequence.draw(row.position) for row in rows]
            turns = list(self._turns(rows, sampler.choose(logits, draws)))
        # Nothing above has changed any sequence, and nothing below can fail.
        self._scheduler.commit(chunks)
        step = Step(
            batch_size=len(chunks),
            shares={chunk.sequence.id: chunk.length for chunk in chunks},
        )
        for job_id, reason in list(self._ended.items()):
            self._finish(self._sequences[job_id], reason, step)
        for turn in turns:
            self._commit(turn, step)
        return step

    def pending(self) -> int:
        return len(self._sequences)

    def linger(self) -> float:
        """A newcomer joins at the next token anyway."""
        return 0.0

    def _turns(self, rows: list[Row], chosen: sampler.Chosen) -> Iterator[Turn]:
        """One for each sequence in this step that had logits; its rows stand side by side, in order."""
        for _, group in groupby(range(len(rows)), key=lambda n: rows[n].sequence.id):
            places = list(group)
            sequence, position = rows[places[-1]].sequence, rows[places[-1]].position
            tokens = [chosen.tokens[n] for n in places]
            scores = [chosen.scores[n] for n in places if n in chosen.scores]
            token = tokens[-1]
            if None in tokens or token is None:
                yield Turn(sequence, sequence.spoken, broken=True)
            elif position + 1 < len(sequence.tokens):
                yield Turn(sequence, sequence.spoken, scores=scores)
            elif sequence.ended is not None:
                reason = sequence.ended
                yield Turn(sequence, sequence.spoken, scores=scores[:-1], reason=reason)
            else:
                yield self._turn(sequence, token, scores)

    def _turn(self, sequence: Sequence, token: int, scores: list[Score]) -> Turn:
        """What the token brings: an end, a piece of text, or nothing to show yet."""
        spoken = sequence.spoken
        if token in self._eos or token in sequence.ends:
            heard = self._detokenizer.flush(spoken, sequence.stops)
            return Turn(sequence, heard.spoken, None, heard.chunk, "stop", scores[:-1])
        heard = self._detokenizer.push(spoken, token, sequence.stops)
        said, stopped = heard.chunk, heard.stopped
        full = sequence.generated + 1 >= sequence.max_new_tokens
        if full and not stopped:
            rest = self._detokenizer.flush(heard.spoken, sequence.stops)
            said = Said((*said.token_ids, *rest.chunk.token_ids), said.text + rest.chunk.text)
            heard, stopped = rest, rest.stopped
        reason = "stop" if stopped else "length" if full else None
        return Turn(sequence, heard.spoken, token, said, reason, scores)

    def _commit(self, turn: Turn, step: Step) -> None:
        sequence = turn.sequence
        if turn.broken:
            self._let_go(sequence, scrub=True)
            message = "The model's output for this job is not a number (NaN or infinity)."
            step.outcomes.append(Broke(sequence.id, "engine_error", message))
            return
        sequence.scores += turn.scores
        if turn.token is not None:
            sequence.tokens.append(turn.token)
        sequence.spoken = turn.spoken
        if turn.said.text:
            sequence.text.append(turn.said.text)
            step.pieces.append(Piece(sequence.id, turn.said.text, turn.said.token_ids))
        if turn.reason is not None:
            self._finish(sequence, turn.reason, step)

    def _finish(self, sequence: Sequence, reason: str, step: Step) -> None:
        """The end token is not counted: the completion's tokens are those of its text."""
        self._let_go(sequence, scrub=False)
        usage = {
            "prompt_tokens": sequence.prompt_length,
            "completion_tokens": sequence.generated,
            "total_tokens": len(sequence.tokens),
            "cached_tokens": min(sequence.reused, sequence.prompt_length),
            "batch_size": max(1, sequence.largest_batch),
        }
        output: dict[str, Any] = {"text": "".join(sequence.text), "finish_reason": reason}
        if sequence.sampling.logprobs is not None:
            output["logprobs"] = told(sequence.scores, self._name)
        step.outcomes.append(Finished(sequence.id, output, usage))

    def _let_go(self, sequence: Sequence, *, scrub: bool) -> None:
        del self._sequences[sequence.id]
        if self._ended.pop(sequence.id, None) is not None:
            return
        slot = self._scheduler.remove(sequence, forget=scrub)
        if slot != NO_SLOT:
            self._runner.release(slot, scrub=scrub)


def _eos_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that ends a text: an id or a list of ids, in either place."""
    found: set[int] = set()
    for ids in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if ids is not None:
            found.update(ids if isinstance(ids, list) else [ids])
    return frozenset(found)
