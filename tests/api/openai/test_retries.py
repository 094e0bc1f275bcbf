"""Which requests are retries, and what they look for."""

import pytest

from api.intake.submission import digest_of
from api.openai.retries import RETRY_COUNT, is_retry, key


@pytest.mark.parametrize(
    ("count", "retry"),
    [
        ("", False),
        ("0", False),
        ("1", True),
        ("12", True),
        ("x", False),
        ("-1", False),
        ("9" * 5000, True),
    ],
)
def test_a_retry_says_so(count: str, retry: bool) -> None:
    assert is_retry({RETRY_COUNT: count}) is retry


def test_the_same_request_has_the_same_key_and_no_caller_can_send_it() -> None:
    one, other = digest_of({"a": 1, "b": 2}), digest_of({"b": 2, "a": 1})

    assert key("k", "/v1/embeddings", one) == key("k", "/v1/embeddings", other)
    assert key("k", "/v1/embeddings", one) != key("other", "/v1/embeddings", one)
    assert not key("k", "/v1/embeddings", one).isprintable()
