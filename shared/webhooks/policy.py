"""Where webhooks may go: to public addresses, and to what the operator allows by name or network.

The same check runs at submit and before every send; the send connects to the very addresses that were
checked (`workers.sender`), so a name that resolves to something else a moment later changes nothing.
"""

import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from shared.webhooks.addresses import Address, Network, is_public
from shared.webhooks.urls import Target, WebhookRefused, parse_target

MAX_ADDRESSES = 32
RESOLVE_SECONDS = 3.0
LOOKUPS = 16
"""Look-ups that may hang at once at submit; the C library takes no timeout."""

Resolve = Callable[[str, int], Sequence[str]]

_ALLOWED_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_NOT_PUBLIC = "must name a host that has public addresses and no other"
_FOREVER = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Unresolved(Exception):
    """A name has no address. `passing`: the name service did not answer, which may pass."""

    def __init__(self, host: str, *, passing: bool) -> None:
        super().__init__(f"{host} does not resolve")
        self.passing = passing


def resolve_by_system(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver has for a name. Raises `Unresolved`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        passing = not (isinstance(error, socket.gaierror) and error.errno in _FOREVER)
        raise Unresolved(host, passing=passing) from None
    return list(dict.fromkeys(str(row[4][0]) for row in found))


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the operator allows beyond public addresses: names, suffixes of names, networks."""

    names: frozenset[str] = frozenset()
    suffixes: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, value: str) -> "Allowed":
        """From `10.0.0.0/8, receiver.internal, *.svc.local`. Raises `ValueError`."""
        names, suffixes, networks = set(), [], []
        for word in filter(None, (word.strip().lower() for word in value.split(","))):
            try:
                networks.append(ip_network(word))
                continue
            except ValueError:
                pass
            if not _ALLOWED_NAME.fullmatch(word) or word[-1].isdigit() or "/" in word:
                raise ValueError(
                    f"{word!r} is neither a host name nor a network such as 10.0.0.0/8"
                )
            if word.startswith("*."):
                suffixes.append(word[1:])
            else:
                names.add(word)
        return cls(frozenset(names), tuple(suffixes), tuple(networks))

    def name(self, host: str) -> bool:
        return host in self.names or host.endswith(self.suffixes)

    def address(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


class UrlPolicy:
    """Decides where webhooks may go. Safe to share between threads."""

    def __init__(self, allowed: Allowed, resolve: Resolve = resolve_by_system) -> None:
        self._allowed = allowed
        self._resolve = resolve
        self._lookups = threading.BoundedSemaphore(LOOKUPS)

    def target(self, url: str) -> Target:
        """What can be said of a URL without asking the name service. Raises `WebhookRefused`."""
        target = parse_target(url)
        if self._trusts(target):
            return target
        if target.scheme != "https":
            raise WebhookRefused("must begin with https://")
        if target.port != 443 and target.port < 1024:
            raise WebhookRefused("must use port 443, or one from 1024")
        if target.address is not None and not is_public(target.address):
            raise WebhookRefused(_NOT_PUBLIC)
        return target

    def addresses(self, target: Target) -> list[Address]:
        """The addresses to connect to, each of them allowed. Raises `WebhookRefused`, `Unresolved`."""
        if target.address is not None:
            return [target.address]
        found = [ip_address(text) for text in self._resolve(target.host, target.port)]
        if not found:
            raise Unresolved(target.host, passing=False)
        if not self._allowed.name(target.host):
            for address in found:
                if not (is_public(address) or self._allowed.address(address)):
                    raise WebhookRefused(_NOT_PUBLIC)
        return found[:MAX_ADDRESSES]

    def admit(self, url: str) -> Target:
        """Check a URL at submit. Raises `WebhookRefused`.

        A name service that does not answer in time refuses nothing: each send looks again.
        """
        target = self.target(url)
        try:
            self._in_time(target)
        except Unresolved as error:
            if not error.passing:
                # The same words as for a private address: names inside must not be told apart.
                raise WebhookRefused(_NOT_PUBLIC) from None
        return target

    def _trusts(self, target: Target) -> bool:
        if target.address is not None:
            return self._allowed.address(target.address)
        return self._allowed.name(target.host)

    def _in_time(self, target: Target) -> None:
        failures: list[Exception] = []
        done = threading.Event()

        def look() -> None:
            try:
                self.addresses(target)
            except Exception as error:  # noqa: BLE001 - raised again by the caller
                failures.append(error)
            finally:
                self._lookups.release()
                done.set()

        if not self._lookups.acquire(timeout=RESOLVE_SECONDS):
            raise Unresolved(target.host, passing=True)
        threading.Thread(target=look, name="look-up", daemon=True).start()
        if not done.wait(RESOLVE_SECONDS):
            raise Unresolved(target.host, passing=True)
        if failures:
            raise failures[0]
