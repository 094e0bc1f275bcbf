"""The examples of the OpenAPI document, made to name the models that a catalogue has."""

from collections.abc import Mapping
from typing import Any

from api.openapi.examples import ECHO_MODEL, EMBEDDING_MODEL, OWN_MODEL, RANKING_MODEL
from api.openapi.model_examples import TEXT_MODEL
from shared.domain.models.catalog import Catalog, ModelSpec
from shared.domain.requests.params import ENGINES, TEXT_ENGINES

_KINDS = {
    TEXT_MODEL: "text",
    EMBEDDING_MODEL: "embedding",
    RANKING_MODEL: "ranking",
    ECHO_MODEL: "echo",
    OWN_MODEL: "own",
}


class ExampleModels:
    """The first model of each kind in a catalogue."""

    def __init__(self, catalog: Catalog) -> None:
        specs = list(catalog)
        self._first = specs[0]
        self._of_kind = {_kind(spec): spec for spec in reversed(specs)}
        self._names = {
            written: self._of_kind.get(kind, specs[0]).name for written, kind in _KINDS.items()
        }

    def bodies(self, examples: Mapping[str, Any]) -> dict[str, Any]:
        """Of examples of bodies those that a model of the catalogue takes."""
        return {
            name: self.named(self._within_limits(body))
            for name, body in examples.items()
            if self._model_of(body) is not None
        }

    def named(self, example: Any) -> Any:
        """An example with the catalogue's names, wherever it names a model."""
        if isinstance(example, str):
            for written, name in self._names.items():
                whole = example == written or example.endswith(f"/{written}")
                if whole or f'"{written}"' in example or f".{written}@" in example:
                    return example.replace(written, name)
            return example
        if isinstance(example, list):
            return [self.named(one) for one in example]
        if isinstance(example, Mapping):
            return {self._names.get(key, key): self.named(one) for key, one in example.items()}
        return example

    def _model_of(self, body: Any) -> ModelSpec | None:
        """The model that a body is for; of one that names none in a member of that name, any."""
        model = body.get("data", body).get("model")
        return self._first if model is None else self._of_kind.get(_KINDS[model])

    def _within_limits(self, body: Any) -> Any:
        spec, params = self._model_of(body), body.get("params", {})
        if spec is None or "max_new_tokens" not in params:
            return body
        most = min(params["max_new_tokens"], spec.limits.max_new_tokens)
        return {**body, "params": {**params, "max_new_tokens": most}}


def _kind(spec: ModelSpec) -> str:
    if spec.engine in TEXT_ENGINES:
        return "text"
    return spec.engine if spec.engine in ENGINES else "own"
