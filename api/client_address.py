"""From which address a request comes, seen through the proxies that the operator trusts."""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNKNOWN = "unknown"
SUBSCRIBER_BITS = 64
"""Of an IPv6 address: whoever has one usually has its whole /64, and counts once."""


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The nearest address that is not a trusted proxy's: an IPv4 address or an IPv6 /64 network.

    `peer` is the other end of the connection, `forwarded` the `X-Forwarded-For` headers in their order. What
    an untrusted peer, or anything that is no address, claims to have seen before it counts for nothing.
    """
    found, _ = _nearest(peer, forwarded, trusted)
    if found is None:
        return UNKNOWN
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, SUBSCRIBER_BITS), strict=False))


def trusted_hops(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> int:
    """How many trusted proxies a request came through, one after the other; 0 where the peer is none."""
    return _nearest(peer, forwarded, trusted)[1]


def _nearest(
    peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]
) -> tuple[Address | None, int]:
    """The nearest address that is not a trusted proxy's, and how many of those came before it."""
    found, proxies = _parse(peer or ""), 0
    hops = [hop.strip() for header in forwarded for hop in header.split(",")]
    while found is not None and _within(found, trusted):
        proxies += 1
        before = _parse(hops.pop()) if hops else None
        if before is None:
            break
        found = before
    return found, proxies


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == net.version and address in net for net in networks)


def _parse(text: str) -> Address | None:
    """An address, without a port or brackets, v4-mapped ones as IPv4."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
