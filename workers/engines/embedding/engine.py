"""The embedding engine: one vector for each text, or a sparse one, or one for each of its tokens."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
import torch

from shared.domain.errors import InputRefused
from shared.domain.requests.inputs import items_to_embed
from shared.domain.requests.prompt_bounds import PromptBounds
from workers.engines.base import Work
from workers.engines.batching.reader import LONG
from workers.engines.embedding.model import load_model
from workers.engines.embedding.vectors import Wish, dense, multi, sparse, wished
from workers.engines.encoding.item_engine import Asked, ItemEngine, Loaded
from workers.engines.encoding.item_queue import Job
from workers.engines.encoding.text_reader import TextReader
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.encoding.truncation import wanted_cut


class Embedding(ItemEngine[Wish]):
    """Any encoder of transformers in a local directory, with sentence-transformers' settings if any."""

    def load_model(self) -> Loaded[Wish]:
        """See `ItemEngine.load_model`."""
        self._model = load_model(self.spec)
        recipe, routes = self._model.recipe, self._model.routes
        readers = {name: route.reader for name, route in routes.items()}
        self._counting = {
            name: reader.counting() if isinstance(reader, TextReader) else None
            for name, reader in readers.items()
        }
        self._bounds = {
            name: reader.bounds(routes[name].limit)
            if isinstance(reader, TextReader)
            else PromptBounds(routes[name].limit)
            for name, reader in readers.items()
        }
        usual = routes[self._model.route(None)] if recipe.choose.name(None) else None
        first = usual or next(iter(routes.values()))
        parts = {
            "vectors": recipe.form,
            "dimensions": self._model.dimensions,
            "pooling": list(first.pooling),
            "prompts": dict(recipe.model.prompts),
            "default_prompt": recipe.model.default_prompt,
            "tasks": [name for name in recipe.choose.modules if name]
            or (["query", "document"] if recipe.form == "multi-vector" else []),
        }
        details: dict[str, Any] = {
            "batching": first.batching,
            "reason": first.reason or "packed vectors equal plain ones",
            "pooling": "+".join(first.pooling),
            "prompt": recipe.model.default_prompt,
            "max_tokens": self._model.limit,
            "parts": parts,
        }
        if len(routes) == 1:
            details["prompt_bounds"] = msgspec.to_builtins(next(iter(self._bounds.values())))
        return Loaded(
            self._model.placement,
            self._model.limit,
            min(route.vocabulary for route in routes.values()),
            Wish(next(iter(routes))),
            details,
        )

    def ask(self, work: Work) -> Asked[Wish]:
        """See `ItemEngine.ask`."""
        items = items_to_embed(work.content)
        kinds = {type(item) for item in items}
        if kinds not in ({str}, {list}):
            raise InputRefused(
                "The input must be a string or a list of strings, or token ids of one or more texts."
            )
        params, task = work.params, work.params.get("task")
        name = self._model.route(task)
        form = self._model.recipe.form
        wish = wished(params, form, name, self._model.dimensions, task)
        if kinds == {list}:
            take = partial(self._take, items, wish, params.get("truncate"))
            return Asked(wish, sum(map(len, items)), take)
        texts: list[str] = items
        prompt = self._model.recipe.model.prompt(
            params.get("prompt_name"), params.get("prompt"), task
        )
        size = sum(map(len, texts)) + len(prompt) * len(texts)
        read = partial(self._read, texts, prompt, wish, params.get("truncate"))
        return Asked(wish, size, read)

    def _read(
        self, texts: list[str], prompt: str, wish: Wish, truncate: Any
    ) -> list[TokenizedText]:
        """Touches nothing but the tokenizer, so any thread may call it. Raises `InputRefused`."""
        route = self._model.routes[wish.route]
        cut = wanted_cut(truncate, route.longest(wish.task))
        count = self._counting[wish.route]
        for number, text in enumerate(texts):
            if cut is None and len(text) > LONG:
                self._bounds[wish.route].check([text])
                if count is not None:
                    route.check_length(number, len(count(text, True)), wish.task)
        return route.read(texts, prompt, wish.task, cut)

    def _take(self, lists: list[list[int]], wish: Wish, truncate: Any) -> list[TokenizedText]:
        """Texts that were tokenised elsewhere, cut as `truncate` says. Raises `InputRefused`."""
        route = self._model.routes[wish.route]
        cut = wanted_cut(truncate, route.longest(wish.task))
        return route.take([list(map(int, ids)) for ids in lists], wish.task, cut)

    def compute(self, texts: Sequence[TokenizedText], wishes: Sequence[Wish]) -> list[torch.Tensor]:
        """See `ItemEngine.compute`. Each route runs its own texts."""
        by_route: dict[str, list[int]] = {}
        for number, wish in enumerate(wishes):
            by_route.setdefault(wish.route, []).append(number)
        found: dict[int, torch.Tensor] = {}
        for name, numbers in by_route.items():
            vectors = self._model.routes[name].vectors([texts[number] for number in numbers])
            found.update(zip(numbers, vectors, strict=True))
        return [found[number] for number in range(len(texts))]

    def rows(
        self, wish: Wish, texts: Sequence[TokenizedText], found: Sequence[torch.Tensor]
    ) -> list[Any]:
        """See `ItemEngine.rows`."""
        route, model = self._model.routes[wish.route], self._model.recipe.model
        match route.recipe.form:
            case "sparse":
                return sparse(found, wish, model.max_active)
            case "multi-vector":
                mask = route.recipe.mask
                assert mask is not None
                kept = [mask.kept(text.ids, route.skipped, wish.task) for text in texts]
                return multi(found, kept, wish)
            case _:
                return dense(
                    found, wish, normalizes=route.recipe.normalize, truncate=model.truncate
                )

    def output(self, job: Job[Wish]) -> Any:
        """See `ItemEngine.output`."""
        found: dict[str, Any] = {
            "embeddings": job.rows,
            "dimensions": job.wish.dimensions or self._model.dimensions,
        }
        if job.wish.encoding == "base64":
            found["encoding"] = "base64"
        return found
