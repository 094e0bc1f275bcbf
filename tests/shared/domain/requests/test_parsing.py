"""Bodies: what is accepted, and that every fault is found and named."""

from pathlib import Path
from typing import Any

import pytest

from shared.domain.errors import InvalidRequest, UnknownModel
from shared.domain.models.catalog import Catalog, Limits, ModelSpec
from shared.domain.requests.parsing import parse_request

CATALOG = Catalog(
    {
        "gen": ModelSpec(
            name="gen", engine="text-generation", path=Path("/"), limits=Limits(max_new_tokens=64)
        ),
        "emb": ModelSpec(name="emb", engine="embedding", path=Path("/")),
        "ids": ModelSpec(name="ids", engine="embedding", path=Path("/"), token_ids=True),
        "own": ModelSpec(name="own", engine="pkg.mod:Class"),
    }
)


def test_defaults_are_filled_in() -> None:
    parsed = parse_request({"model": "gen", "prompt": "x"}, CATALOG)
    assert (parsed.content, parsed.spec.name, parsed.params["temperature"]) == ("x", "gen", 0.0)
    assert parsed.told == {}


@pytest.mark.parametrize(
    "body",
    [
        {"model": "gen", "input": {"messages": [{"role": "user", "content": "hi"}]}},
        {"model": "emb", "input": ["a", "b"]},
        {"model": "emb", "prompt": "a"},
        {"model": "ids", "input": [1, 2.0]},
        {"model": "ids", "input": [[1], [2, 3]]},
        {"model": "own", "input": {"any": [1, None]}, "params": {"free": True}},
        {"model": "own", "input": [None]},
        {"model": "gen", "prompt": "", "metadata": {"k": "v"}, "priority": "low", "expires_in": 5},
    ],
)
def test_accepted(body: dict[str, Any]) -> None:
    assert parse_request(body, CATALOG).request.model == body["model"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "model"),
        ({"model": "gen"}, ""),
        ({"model": "gen", "prompt": "a", "input": "b"}, ""),
        ({"model": "gen", "prompt": None}, ""),
        ({"model": "own", "input": None}, ""),
        ({"model": "gen", "prompt": 3}, "prompt"),
        ({"model": "gen", "prompt": "a", "promt": "b"}, "promt"),
        ({"model": "gen", "prompt": "a", "params": {"temprature": 1}}, "params.temprature"),
        ({"model": "gen", "prompt": "a", "params": {"temperature": "1"}}, "params.temperature"),
        ({"model": "gen", "prompt": "a", "params": {"temperature": -1}}, "params.temperature"),
        ({"model": "gen", "prompt": "a", "params": {"top_p": 0}}, "params.top_p"),
        ({"model": "gen", "prompt": "a", "params": {"stop": [""]}}, "params.stop.0"),
        ({"model": "gen", "prompt": "a", "params": {"seed": 2**63}}, "params.seed"),
        ({"model": "gen", "prompt": "a", "params": {"min_p": 1.1}}, "params.min_p"),
        (
            {"model": "gen", "prompt": "a", "params": {"presence_penalty": 2.1}},
            "params.presence_penalty",
        ),
        (
            {"model": "gen", "prompt": "a", "params": {"frequency_penalty": -2.1}},
            "params.frequency_penalty",
        ),
        (
            {"model": "gen", "prompt": "a", "params": {"stop_token_ids": [-1]}},
            "params.stop_token_ids.0",
        ),
        (
            {"model": "gen", "prompt": "a", "params": {"stop_token_ids": [1] * 33}},
            "params.stop_token_ids",
        ),
        (
            {"model": "gen", "prompt": "a", "params": {"logprobs": True, "top_logprobs": 21}},
            "params.top_logprobs",
        ),
        ({"model": "gen", "prompt": "a", "params": {"logprobs": 3}}, "params.logprobs"),
        (
            {"model": "gen", "prompt": "a", "params": {"max_new_tokens": 65}},
            "params.max_new_tokens",
        ),
        ({"model": "gen", "input": {"messages": []}}, "input"),
        ({"model": "emb", "input": []}, "input"),
        ({"model": "emb", "input": ["a", 1]}, "input"),
        ({"model": "gen", "prompt": "a", "priority": "urgent"}, "priority"),
        ({"model": "gen", "prompt": "a", "expires_in": 0}, "expires_in"),
        ({"model": "gen", "prompt": "a", "expires_in": float("inf")}, "expires_in"),
        ({"model": "gen", "prompt": "a", "metadata": {"k": 1}}, "metadata"),
        ({"model": "gen", "prompt": "a", "metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ([], ""),
    ],
)
def test_refused_with_the_place(body: Any, where: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request(body, CATALOG)
    places = [".".join(map(str, row["loc"])) for row in refused.value.errors]
    assert any(place.startswith(where) for place in places), places


def test_alternatives_without_logprobs_are_refused_in_words() -> None:
    with pytest.raises(InvalidRequest, match="top_logprobs needs logprobs: true"):
        parse_request({"model": "gen", "prompt": "a", "params": {"top_logprobs": 2}}, CATALOG)


@pytest.mark.parametrize(
    ("model", "content", "detail"),
    [
        ("emb", 3, "input: Input should be a string or a list of strings"),
        ("emb", {"a": 1}, "input: Input should be a string or a list of strings"),
        ("emb", [], "input: List should have at least 1 item after validation, not 0"),
        ("emb", ["a", 1], "input.1: Input should be a valid string"),
        ("gen", ["a"], "input.0: Input should be a valid integer"),
        ("gen", {"messages": [{"role": "user"}]}, "input.messages.0.content: Field required"),
    ],
)
def test_a_fault_in_an_input_is_said_of_the_kind_that_was_sent(
    model: str, content: Any, detail: str
) -> None:
    """Of a union pydantic tells what is wrong for each of its kinds, the wrong ones first."""
    with pytest.raises(InvalidRequest) as refused:
        parse_request({"model": model, "input": content}, CATALOG)
    assert refused.value.detail == detail
    assert len(refused.value.errors) == 1


def test_our_own_words_are_not_prefixed() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_request({"model": "gen"}, CATALOG)
    message = "Give exactly one of 'prompt' and 'input'"
    assert refused.value.detail == message
    assert refused.value.errors == [{"loc": [], "msg": message, "type": "value_error"}]


def test_an_unknown_model_is_its_own_error() -> None:
    with pytest.raises(UnknownModel):
        parse_request({"model": "nope", "prompt": "x"}, CATALOG)


@pytest.mark.parametrize("given", [[1, 2], [[1, 2], [3]]])
def test_token_ids_are_embedded_where_the_entry_takes_them_alone(given: Any) -> None:
    with pytest.raises(InvalidRequest, match="check_embedding_ctx_length=False") as refusal:
        parse_request({"model": "emb", "input": given}, CATALOG)
    assert refusal.value.errors[0]["loc"] == ["input"]

    with pytest.raises(InvalidRequest, match=r"params\.prompt_name: stands before texts"):
        parse_request({"model": "ids", "input": given, "params": {"prompt_name": "q"}}, CATALOG)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ([1, "a"], ["input", 1]),
        ([[1], [2, -1]], ["input", 1, 1]),
        ([[1], []], ["input", 1]),
        ([["a"]], ["input", 0, 0]),
        ([True], ["input", 0]),
        (["a", [1]], ["input", 1]),
        ([[1]] * 513, ["input"]),
    ],
)
def test_a_fault_among_token_ids_is_shown_in_its_place(given: Any, place: list[Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse_request({"model": "ids", "input": given}, CATALOG)
    assert refusal.value.errors[0]["loc"] == place
