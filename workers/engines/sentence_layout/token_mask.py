"""Chooses the tokens whose vectors a multi-vector model gives: sentence-transformers' MultiVectorMask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from shared.domain.errors import ConfigError
from workers.engines.loading.local_model import read_json
from workers.engines.sentence_layout.transformer_settings import check_keys


@dataclass(frozen=True, slots=True)
class TokenMask:
    """Tokens of `words` are left out of texts of `tasks`; no task counts as "document"."""

    words: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ("document",)

    @classmethod
    def read(cls, folder: Path, where: str) -> Self:
        """Of a module's folder. Raises `ConfigError` naming what is not honoured."""
        file = folder / "config.json"
        config, place = read_json(file, where), f"{where}: {file}"
        check_keys(config, ("skiplist_words", "skiplist_tasks", "keep_only_token_ids"), place)
        if config.get("keep_only_token_ids"):
            raise ConfigError(f"{place}: keep_only_token_ids is for images and not supported")
        words, tasks = config.get("skiplist_words"), config.get("skiplist_tasks")
        tasks = [tasks] if isinstance(tasks, str) else tasks
        for key, found in (("skiplist_words", words), ("skiplist_tasks", tasks)):
            listed = found is None or isinstance(found, list)
            if not listed or not all(isinstance(word, str) for word in found or ()):
                raise ConfigError(f"{place}: {key} must be a list of texts, got {found!r}")
        return cls(tuple(words or ()), ("document",) if tasks is None else tuple(tasks))

    def skipped(self, tokenizer: Any) -> frozenset[int]:
        """Ids of the words. One that is no token of its own is left out, as the library does."""
        unknown, name = tokenizer.unk_token_id, tokenizer.unk_token
        ids = {word: tokenizer.convert_tokens_to_ids(word) for word in self.words}
        return frozenset(
            id_ for word, id_ in ids.items() if id_ is not None and (id_ != unknown or word == name)
        )

    def kept(self, ids: Sequence[int], skipped: frozenset[int], task: str | None) -> list[int]:
        """Places of the tokens that have a vector."""
        if (task or "document") not in self.tasks:
            return list(range(len(ids)))
        return [place for place, id_ in enumerate(ids) if id_ not in skipped]
