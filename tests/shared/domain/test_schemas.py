"""What goes over the wire: job requests as they are checked, and times."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.domain.errors import InvalidRequest
from shared.domain.schemas import MAX_EXPIRES_IN, CheckedRequest, JobRequest, rfc3339


def test_times_are_rfc3339_with_milliseconds() -> None:
    assert rfc3339(1_700_000_000_999) == "2023-11-14T22:13:20.999Z"
    assert rfc3339(1_700_000_001_000) == "2023-11-14T22:13:21.000Z"
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"


_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**64),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
    st.lists(st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none() | st.text(max_size=2), max_size=2),
)
_BODIES = st.fixed_dictionaries(
    {"model": st.text(max_size=2) | st.sampled_from(("m" * 128, "é" * 129)) | _ODD},
    optional={
        "prompt": st.text(max_size=3) | _ODD,
        "input": _ODD,
        "params": st.dictionaries(st.text(max_size=2), _ODD, max_size=2) | _ODD,
        "priority": st.sampled_from(("high", "normal", "low", "High", "")) | _ODD,
        "expires_in": st.sampled_from((0, 0.0, 1, MAX_EXPIRES_IN, MAX_EXPIRES_IN + 1, True))
        | st.floats(-1, MAX_EXPIRES_IN * 2),
        "webhook": st.fixed_dictionaries({"url": st.just("https://a.example")}) | _ODD,
        "metadata": st.dictionaries(
            st.sampled_from(("", "a", "b" * 64, "c" * 65, "é" * 64)) | st.text(max_size=2),
            st.sampled_from(("", "v" * 512, "v" * 513)) | _ODD,
            max_size=18,
        ),
        "extra": _ODD,
    },
)


@given(_BODIES)
def test_a_body_is_taken_when_the_schema_takes_it_and_as_the_schema_means_it(
    body: dict[str, Any],
) -> None:
    try:
        expected = dict(JobRequest.model_validate(body))
    except ValidationError:
        with pytest.raises(InvalidRequest):
            CheckedRequest.of(body)
        return

    found = CheckedRequest.of(body)

    assert {name: getattr(found, name) for name in expected} == expected
    assert type(found.expires_in) is type(expected["expires_in"])


def test_what_a_request_may_hold_is_what_the_schema_says() -> None:
    assert set(CheckedRequest.__struct_fields__) == set(JobRequest.model_fields)
