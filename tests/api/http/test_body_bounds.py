"""How much a body may hold, and that it is counted before anything is made of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.http import body_bounds
from api.http.body_bounds import decoded
from shared.domain.errors import JobsError
from tests.conftest import examples

MOST = 100


def refused(body: bytes) -> JobsError:
    with pytest.raises(JobsError) as caught:
        decoded(body, MOST)
    return caught.value


@pytest.mark.parametrize(
    "value",
    [
        list(range(MOST)),
        [0.5] * MOST,
        [""] * MOST,
        ['\\"'] * MOST,
        [[]] * MOST,
        [{}] * MOST,
        {f"a{number}": 1 for number in range(MOST)},
        {f"{number}\\": "," for number in range(MOST)},
        [[[]] * 10] * 10,
        [{"a": [0] * 5, "b": "x"}] * 20,
    ],
    ids=lambda value: json.dumps(value)[:30],
)
def test_too_many_values_are_refused_before_they_are_decoded(
    value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_bounds, "_DECODER", None)

    for spaces in (None, 1):
        error = refused(json.dumps({"input": value}, indent=spaces).encode())

        assert error.code == "invalid_request" and str(MOST) in error.detail


@pytest.mark.parametrize(
    "text",
    [
        ",[{:" * MOST,
        '\\"' * MOST,
        '"' * 2 * MOST,
        "\\" * 3 * MOST + '"',
        "\n:," * MOST,
        '{"a": [1, 2]}' * MOST,
    ],
    ids=lambda text: json.dumps(text)[:20],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_inside_a_text_is_one_value(text: str, ascii_only: bool) -> None:
    value = {"prompt": text, "params": {"stop": [text[:9]]}, text[:9]: 0}

    assert decoded(json.dumps(value, ensure_ascii=ascii_only).encode(), MOST) == value


def test_as_many_as_the_bound_are_taken() -> None:
    numbers = list(range(MOST - 4))

    assert decoded(json.dumps({"input": numbers}).encode(), MOST) == {"input": numbers}


@pytest.mark.parametrize(
    "body",
    [b"\\" * 500, b'"' * 150, b'\\"' * 300, b'{"a":"' + b"\\" * 501 + b'"}', b"{" * 50, b":" * 50],
)
def test_what_is_no_json_is_refused_all_the_same(body: bytes) -> None:
    assert refused(body).code in ("malformed_json", "invalid_request")


@settings(max_examples=examples(200))
@given(st.data())
def test_a_member_named_twice_is_found_at_any_depth(data: st.DataObject) -> None:
    """Against a parser that keeps every pair it reads."""
    pairs = st.lists(st.tuples(st.text(':"\\{a', max_size=3), st.just("0")), max_size=4)
    body = data.draw(pairs)
    for _ in range(data.draw(st.integers(0, 3))):
        body = [*data.draw(pairs), (data.draw(st.text(':"\\[b', max_size=3)), _object(body))]
    encoded = _object(body).encode()
    repeated = []

    def kept(found: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated.append(len(dict(found)) < len(found))
        return dict(found)

    value = json.loads(encoded, object_pairs_hook=kept)

    if any(repeated):
        assert refused(encoded).code == "malformed_json"
    else:
        assert decoded(encoded, MOST) == value


def _object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)} : {value}" for name, value in pairs) + "}"
