"""Which targets and hosts are taken: those that the router and every rule about paths read alike."""

from typing import Any

import pytest

from api.http.request_target import fault_of


def asked(**members: str) -> dict[str, Any]:
    return {
        "RAW_URI": "/v1/jobs",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "a.example",
        **members,
    }


@pytest.mark.parametrize(
    "host",
    [
        "a",
        "a.example",
        "a.example.:80",
        "my_host:8000",
        "127.0.0.1:1",
        "[::1]:8000",
        "x" * 63,
        "",
        ":80",
    ],
)
def test_a_host_that_names_a_machine_is_taken(host: str) -> None:
    assert fault_of(asked(HTTP_HOST=host)) is None


@pytest.mark.parametrize(
    "host", [".example", "a..b", "..", "x" * 64, "a b", "<a>", "[::1", "a:b", "ä"]
)
def test_a_host_that_the_router_cannot_read_is_refused_before_it(host: str) -> None:
    fault = fault_of(asked(HTTP_HOST=host))

    assert fault is not None and fault.startswith("Send one Host header")
