"""The ranking engine: scores of pairs or texts, and documents in the order of their relevance to a query."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from shared.domain.errors import InputRefused
from workers.engines.base import Work
from workers.engines.encoding.item_engine import Asked, ItemEngine, Loaded
from workers.engines.encoding.item_queue import Job
from workers.engines.encoding.text_reader import Pair
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.encoding.truncation import wanted_cut
from workers.engines.ranking.model import ASKED, load_model


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job asks for. `ranks`: its documents in order, the best `top_n` of them."""

    ranks: bool = False
    top_n: int | None = None
    activation: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """A job's input: `pairs`, or `texts`. `ranks` and `top_n` as in `Wish`."""

    pairs: Sequence[Pair] = ()
    texts: Sequence[str] = ()
    ranks: bool = False
    top_n: int | None = None


class Ranking(ItemEngine[Wish]):
    """Any sequence classifier of transformers in a local directory, and what CrossEncoder saves."""

    def load_model(self) -> Loaded[Wish]:
        """See `ItemEngine.load_model`."""
        self._model = model = load_model(self.spec)
        prompts = dict(model.recipe.model.prompts)
        parts = {
            "labels": list(model.labels),
            "activation": model.own_name,
            "prompts": prompts,
            "default_prompt": model.recipe.model.default_prompt,
        }
        return Loaded(
            model.placement,
            model.limit,
            model.vocabulary,
            Wish(),
            {
                "batching": model.batching,
                "reason": model.reason or "packed scores equal plain ones",
                "labels": list(model.labels),
                "max_tokens": model.limit,
                "parts": parts,
            },
        )

    def ask(self, work: Work) -> Asked[Wish]:
        """See `ItemEngine.ask`."""
        params, content = work.params, read_content(work.content)
        labels = self._model.labels
        if content.ranks and len(labels) > 1:
            raise InputRefused(
                f"This model has {len(labels)} labels ({', '.join(labels)}), and ranking needs one: send"
                " pairs, and each has a score for every label."
            )
        asked = params.get("activation")
        if asked is not None and asked not in ASKED:
            raise InputRefused(f"activation must be one of {', '.join(ASKED)}, not {asked!r}.")
        if asked == "softmax" and len(labels) == 1:
            raise InputRefused("activation: softmax of one label is always 1.")
        prompt = self._model.recipe.model.prompt(params.get("prompt_name"), params.get("prompt"))
        count = len(content.pairs) + len(content.texts)
        size = sum(len(a) + len(b) for a, b in content.pairs) + sum(map(len, content.texts))
        read = partial(self._read, content, prompt, params.get("truncate"))
        return Asked(Wish(content.ranks, content.top_n, asked), size + count * len(prompt), read)

    def _read(self, content: Content, prompt: str, truncate: Any) -> list[TokenizedText]:
        """Touches nothing but the tokenizer, so any thread may call it. Raises `InputRefused`."""
        model = self._model
        cut = wanted_cut(truncate, model.limit)
        if content.pairs:
            found = model.reader.read_pairs(content.pairs, prompt, cut)
        else:
            found = model.reader.read(content.texts, prompt, cut)
        what = "Document" if content.ranks else "Pair" if content.pairs else "Text"
        for number, text in enumerate(found):
            if len(text) > model.limit:
                raise InputRefused(
                    f"{what} {number} has {len(text)} tokens with all that stands beside it; this model takes"
                    f" {model.limit}. Shorten it, or have it cut with params.truncate.",
                    code="prompt_too_long",
                )
            if not text.ids:
                raise InputRefused(f"{what} {number} has no tokens.")
            if max(text.ids) >= model.vocabulary:
                raise InputRefused(f"{what} {number} has tokens outside the model's vocabulary.")
        return found

    def compute(
        self,
        texts: Sequence[TokenizedText],
        wishes: Sequence[Wish],  # noqa: ARG002  all run alike
    ) -> list[torch.Tensor]:
        """See `ItemEngine.compute`."""
        return self._model.score(texts)

    def rows(
        self,
        wish: Wish,
        texts: Sequence[TokenizedText],  # noqa: ARG002  their scores say it all
        found: Sequence[torch.Tensor],
    ) -> list[Any]:
        """See `ItemEngine.rows`: a number each, or one for every label."""
        scores = self._model.activated(torch.stack(list(found)), wish.activation)
        one = len(self._model.labels) == 1
        rows: list[Any] = scores[:, 0].tolist() if one else scores.tolist()
        return rows

    def output(self, job: Job[Wish]) -> Any:
        """See `ItemEngine.output`."""
        if job.wish.ranks:
            order = sorted(range(len(job.rows)), key=lambda number: -job.rows[number])
            best = order[: job.wish.top_n]
            return {"results": [{"index": number, "score": job.rows[number]} for number in best]}
        labels = self._model.labels
        if len(labels) == 1:
            return {"scores": job.rows}
        best = [max(range(len(row)), key=row.__getitem__) for row in job.rows]
        return {
            "scores": job.rows,
            "labels": list(labels),
            "predictions": [labels[number] for number in best],
        }


def read_content(content: Any) -> Content:
    """A job's input, checked. Raises `InputRefused`."""
    if isinstance(content, str):
        return Content(texts=[content])
    if isinstance(content, list) and content:
        if _texts(content):
            return Content(texts=content)
        if all(
            isinstance(item, list | tuple) and len(item) == 2 and _texts(item) for item in content
        ):
            return Content([(first, second) for first, second in content])
    if isinstance(content, dict) and set(content) <= {"query", "documents", "top_n"}:
        query, documents, top_n = (content.get(name) for name in ("query", "documents", "top_n"))
        counted = top_n is None or (isinstance(top_n, int) and top_n > 0)
        listed = isinstance(documents, list) and bool(documents) and _texts(documents)
        if isinstance(query, str) and listed and counted:
            return Content([(query, text) for text in documents or ()], (), True, top_n)
    raise InputRefused(
        "The input must be {query, documents, top_n}, a list of pairs of texts, a text or a list of texts."
    )


def _texts(items: Sequence[Any]) -> bool:
    return all(isinstance(item, str) for item in items)
