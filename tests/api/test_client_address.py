from ipaddress import ip_network

import pytest

from api.client_address import UNKNOWN, client_address, trusted_hops

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("::1")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "hops"),
    [
        ("203.0.113.7", ["10.0.0.1"], 0),
        ("10.0.0.1", [], 1),
        ("10.0.0.1", ["203.0.113.7"], 1),
        ("10.0.0.1", ["10.0.0.9, 203.0.113.7"], 1),
        ("10.0.0.1", ["203.0.113.7, 10.0.0.9"], 2),
        ("10.0.0.1", ["203.0.113.7", "10.0.0.9, ::1"], 3),
        (None, ["10.0.0.1"], 0),
    ],
)
def test_trusted_proxies_are_counted_from_the_nearest(
    peer: str | None, forwarded: list[str], hops: int
) -> None:
    assert trusted_hops(peer, forwarded, TRUSTED) == hops


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("::1", ["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("::1", ["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", [], "203.0.113.7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("", ["198.51.100.1"], UNKNOWN),
        (None, [], UNKNOWN),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str | None, forwarded: list[str], address: str
) -> None:
    assert client_address(peer, forwarded, TRUSTED) == address
