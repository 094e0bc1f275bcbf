"""vLLM behind the engine protocol: it schedules and samples, this side checks, detokenises and ends texts.

Driven through `LLMEngine`'s step API (add_request, step, abort_request) in this process. vLLM pins
versions of torch and transformers of its own, so it lives in another environment: the catalogue's
`python` names that environment's interpreter, and the engine host runs there.
"""

import logging
import traceback
from collections import deque
from collections.abc import Sequence as Items
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import ModelSpec
from shared.domain.states import CLASSES
from workers.engines.base import EngineInfo, Failed, Finished, Step, Work
from workers.engines.batching.intake import Intake
from workers.engines.faults import DeviceLost, device_lost, exhausted, reclaim
from workers.engines.loading.local_model import trusted_directory
from workers.engines.loading.tokenizer_file import read_tokenizer
from workers.engines.texts.choices import Choices
from workers.engines.texts.detokenizer import Detokenizer
from workers.engines.texts.input_validator import InputValidator, length_of
from workers.engines.texts.logprobs import namer, to_json
from workers.engines.texts.pieces import read_as_messages
from workers.engines.texts.replies import Replies
from workers.engines.texts.sequence import Sequence
from workers.engines.vllm.adapters import read_adapters
from workers.engines.vllm.reader import Reader, Text
from workers.engines.vllm.sampling import sampling
from workers.engines.vllm.setup import device_of, make_one_token, own_settings, start
from workers.engines.vllm.structured import structured

_log = logging.getLogger(__name__)


class Vllm:
    """Any causal language model that vLLM serves, in a local directory.

    A text that an earlier attempt began is continued as a prompt. vLLM's random numbers do not depend
    on the position alone, so with a temperature the rest may differ from what the first attempt would
    have said; its seed is then another one.
    """

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._own = spec.name if spec.base is not None else ""
        """The adapter of jobs that name none."""
        self._jobs: dict[str, Choices] = {}
        self._texts: dict[str, Text] = {}
        """Those that are being made, of all jobs."""
        self._requests: dict[str, Text] = {}
        self._ended: dict[str, str] = {}
        """Texts that an earlier attempt had finished, with the reason; they need no step."""
        self._numbers = count()
        self._intake = Intake(self._begin)
        self.taken: Items[str] = ()

    def load(self) -> EngineInfo:
        path = trusted_directory(self._spec)
        self._adapters = adapters = read_adapters(self._spec, path)
        self._library, self._engine = start(self._spec, path, adapters)
        if self._own in adapters.refused:
            raise ConfigError(adapters.refused[self._own])
        model = self._engine.model_config
        self._set_up_texts(path, int(model.max_model_len))
        slots = self._spec.batch.max_size
        return EngineInfo(
            # A few more than run at once, so that a place that falls free is taken in the next step.
            capacity=slots + max(1, slots // 4),
            continues=True,
            device=device_of(self._spec, str(self._library.platform.device_type)),
            dtype=str(model.dtype).removeprefix("torch."),
            details={
                "batching": "vllm",
                "vllm": self._library.version,
                "slots": slots,
                "context": int(model.max_model_len),
                "prompt_bounds": msgspec.to_builtins(self._validators[""].bounds),
                "accepted": msgspec.to_builtins(self._validators[""].accepted),
                "generation_config": self._settings.to_json(),
            },
            adapters={
                name: {
                    "adapter_rank": adapters.ranks[name],
                    "prompt_bounds": msgspec.to_builtins(self._validators[name].bounds),
                    "accepted": msgspec.to_builtins(self._validators[name].accepted),
                }
                for name in adapters.requests
            },
            refused=adapters.refused,
        )

    def admit(self, work: Work) -> None:
        if work.id in self._jobs or work.id in self._intake:
            raise InputRefused(f"The job {work.id} is here already.")
        if not work.adapter and self._own:
            work = msgspec.structs.replace(work, adapter=self._own)
        read = partial(self._validators[work.adapter].read, work)
        self._intake.admit(work, length_of(work.content), read)

    def _begin(self, work: Work, prompt: list[int]) -> None:
        sequences = self._validators[work.adapter].sequences(work, prompt)
        grammar = self._replies.grammar(work)
        held = structured(grammar) if grammar else None
        read_as_messages(sequences, self._replies, work, prompt, self._detokenizer)
        self._jobs[work.id] = Choices(sequences)
        for sequence in sequences:
            text = Text(sequence, "", CLASSES.index(work.priority), held)
            self._texts[sequence.id] = text
            if sequence.ended is not None and not self._scores_anew(sequence):
                self._ended[sequence.id] = sequence.ended
                continue
            try:
                self._submit(text)
            except (TypeError, ValueError, self._library.client_error) as error:
                self.cancel(work.id)
                raise InputRefused(f"vLLM refuses this job: {error}") from None

    def cancel(self, job_id: str) -> None:
        self._intake.cancel(job_id)
        job = self._jobs.pop(job_id, None)
        for sequence in job.living if job is not None else ():
            if (text := self._texts.get(sequence.id)) is not None:
                self._let_go(text, abort=True)

    def step(self) -> Step:
        """One step of vLLM: a token or more for each text that runs."""
        self.taken = ()
        self._intake.take_in()
        if self._ended or self._intake.has_refused:
            # In a step of their own: one that raises would lose their outcomes.
            done = Step(outcomes=[*self._intake.refusals()])
            for name, reason in list(self._ended.items()):
                self._tell(self._texts[name], done, reason)
                self._finish(self._texts[name], reason, done, abort=False)
            return done
        if not self._requests:
            return Step()
        self.taken = list(dict.fromkeys(t.sequence.job for t in self._requests.values()))
        try:
            outputs = self._engine.step()
        except (Exception, SystemExit) as error:
            self._recover(error)
            raise
        shares: dict[str, float] = {}
        for output in outputs:
            if (text := self._requests.get(output.request_id)) is not None:
                job, made = text.sequence.job, max(1, len(output.outputs[0].token_ids))
                shares[job] = shares.get(job, 0.0) + made
        step = Step([], [], len(outputs), shares)
        for output in outputs:
            text = self._requests.get(output.request_id)
            if text is not None:
                text.cached = output.num_cached_tokens or 0
                self._hear_or_break(text, output, step)
        return step

    def pending(self) -> int:
        return len(self._jobs) + len(self._intake)

    def batch_delay(self) -> float:
        """A newcomer joins at the next token anyway; prompts that are being read are waited for."""
        return self._intake.batch_delay(busy=bool(self._jobs))

    def _submit(self, text: Text) -> None:
        """Have vLLM go on where the text has come to. Raises what vLLM raises."""
        sequence = text.sequence
        text.request = f"{sequence.id}#{next(self._numbers)}"
        begun = sequence.tokens
        if text.structured is not None:
            text.repeats = deque(begun[sequence.prompt_length :])
            begun = begun[: sequence.prompt_length]
        # With a salt, what vLLM's prefix cache holds is found by the same tenant alone.
        prompt = self._library.tokens_input(list(begun), cache_salt=sequence.salt or None)
        self._engine.add_request(
            text.request,
            prompt,
            sampling(self._library, sequence, len(begun), text.structured),
            lora_request=self._adapters.requests.get(sequence.adapter),
            priority=text.priority,
        )
        self._requests[text.request] = text

    def _recover(self, error: BaseException) -> None:
        """Bring vLLM to where it was before a step that raised. Raises `DeviceLost` where it cannot be.

        Its scheduler takes the step's tokens for computed: their requests would never get another one, and
        the prefix cache would give away blocks that were never written. So all texts leave, the cache is
        emptied, and once a token of a probe has come they are given anew, each with what it has said.
        """
        lost = device_lost(error)
        if lost is not None or type(error).__name__ == "EngineDeadError":
            raise lost or DeviceLost(f"vLLM's engine is dead: {error}", blames=True) from error
        if exhausted(error):
            # The step's tensors are held by its frames.
            traceback.clear_frames(error.__traceback__)
            reclaim()
        texts = list(self._requests.values())
        try:
            self._engine.abort_request(list(self._requests))
            self._requests.clear()
            if not self._engine.reset_prefix_cache():
                raise RuntimeError("its prefix cache cannot be emptied")
            make_one_token(self._library, self._engine)
            for text in texts:
                self._submit(text)
        except Exception as unfit:  # noqa: BLE001 - whatever it is, it is not fit to go on
            message = f"vLLM is of no use after a step that raised {error!r}: {unfit!r}"
            raise DeviceLost(message, blames=True) from error
        _log.warning("a step of vLLM raised; its %d texts go on where they were", len(texts))

    def _hear_or_break(self, text: Text, output: Any, step: Step) -> None:
        """What goes wrong with one text here must not lose what the step brought of the others."""
        try:
            self._hear(text, output, step)
        except Exception as error:  # noqa: BLE001 - it ends its own job and no other
            _log.exception("reading what vLLM says of %s failed", text.sequence.id)
            self._fail(text, f"vLLM's answer could not be read: {type(error).__name__}", step)

    def _hear(self, text: Text, output: Any, step: Step) -> None:
        """Take in what vLLM says of a text: new tokens, and perhaps its end."""
        end = self._reader.read(text, output, step.batch_size)
        self._tell(text, step, end.reason if end is not None else "")
        if end is None:
            return
        if end.error:
            self._fail(text, end.error, step)
        else:
            self._finish(text, end.reason, step, abort=not output.finished)

    def _scores_anew(self, sequence: Sequence) -> bool:
        """Whether a text that has ended already is run for its scores, for which it needs room."""
        wanted = sequence.sampling.logprobs is not None and sequence.generated > 0
        return wanted and len(sequence.tokens) < self._engine.model_config.max_model_len

    def _tell(self, text: Text, step: Step, reason: str = "") -> None:
        if (piece := self._reader.piece(text, reason)) is not None:
            step.pieces.append(piece)

    def _finish(self, text: Text, reason: str, step: Step, *, abort: bool) -> None:
        self._let_go(text, abort=abort)
        sequence = text.sequence
        sequence.reused = text.cached
        job = self._jobs[sequence.job]
        output: dict[str, Any] = {"text": "".join(sequence.text), "finish_reason": reason}
        if sequence.sampling.logprobs is not None:
            output["logprobs"] = to_json(sequence.scores, self._name, alone=sequence.alone)
        job.end(sequence, output)
        if job.complete:
            del self._jobs[sequence.job]
            step.outcomes.append(Finished(sequence.job, job.output, job.usage))

    def _fail(self, text: Text, message: str, step: Step) -> None:
        """One text that cannot be made ends its job, with its other texts."""
        self.cancel(text.sequence.job)
        step.outcomes.append(Failed(text.sequence.job, "engine_error", message))

    def _let_go(self, text: Text, *, abort: bool) -> None:
        del self._texts[text.sequence.id]
        self._ended.pop(text.sequence.id, None)
        if self._requests.pop(text.request, None) is not None and abort:
            self._engine.abort_request([text.request])

    def _set_up_texts(self, path: Path, context: int) -> None:
        where = f"models.{self._spec.name}.path"
        tokenizer = read_tokenizer(path, where)
        self._detokenizer = Detokenizer.of(tokenizer)
        self._name = namer(self._detokenizer.vocabulary)
        self._reader = Reader(self._detokenizer, self._name)
        self._replies = Replies(tokenizer, self._detokenizer.vocabulary)
        ends, size, self._settings = own_settings(path, tokenizer, where)
        limits = {"": self._spec.limits} | {
            one.name: one.limits
            for one in self._spec.adapters
            if one.name in self._adapters.requests
        }
        self._validators = {
            name: InputValidator(
                tokenizer, self._detokenizer, most, size, context, self._settings, ends
            )
            for name, most in limits.items()
        }
