"""What goes over the wire: times."""

from shared.domain.schemas import rfc3339


def test_times_are_rfc3339_with_milliseconds() -> None:
    assert rfc3339(1_700_000_000_999) == "2023-11-14T22:13:20.999Z"
    assert rfc3339(1_700_000_001_000) == "2023-11-14T22:13:21.000Z"
    assert rfc3339(1_700_000_000_007) == "2023-11-14T22:13:20.007Z"
