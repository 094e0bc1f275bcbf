"""Where webhooks may go: to public addresses, and to what the operator allows by name or network.

The same check runs at submit and before every send; the send connects to the very addresses that were
checked (`workers.webhooks.sender`), so a name that resolves to something else a moment later changes nothing.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from shared.webhooks.addresses import Address, Network, is_public
from shared.webhooks.lookups import MOST, SECONDS, Lookups, Resolve, Unresolved, resolve_by_system
from shared.webhooks.urls import Target, WebhookRefused, parse_target

MAX_ADDRESSES = 32

_ALLOWED_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_NOT_PUBLIC = "must name a host that has public addresses and no other"


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
                # Not a network, so it must be a name.
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
    """Decides where webhooks may go. Safe to share between threads.

    A look-up of a name gets `seconds`; at most `most` of them may hang at once.
    """

    def __init__(
        self,
        allowed: Allowed,
        resolve: Resolve = resolve_by_system,
        *,
        seconds: float = SECONDS,
        most: int = MOST,
    ) -> None:
        self._allowed = allowed
        self._lookups = Lookups(resolve, seconds=seconds, most=most)

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

    def addresses(self, target: Target, tenant: str) -> list[Address]:
        """The addresses to connect to for a tenant, each of them allowed.

        Raises `WebhookRefused`, `Unresolved`, `LookupsBusy`.
        """
        if target.address is not None:
            return [target.address]
        texts = self._lookups.addresses(target.host, target.port, tenant)
        found = [ip_address(text) for text in texts]
        if not found:
            raise Unresolved(target.host, passing=False)
        if not self._allowed.name(target.host):
            for address in found:
                if not (is_public(address) or self._allowed.address(address)):
                    raise WebhookRefused(_NOT_PUBLIC)
        return found[:MAX_ADDRESSES]

    def admit(self, url: str, tenant: str) -> Target:
        """Check a tenant's URL at submit. Raises `WebhookRefused`, `LookupsBusy`.

        A name service that does not answer in time refuses nothing: each send looks again.
        """
        target = self.target(url)
        try:
            self.addresses(target, tenant)
        except Unresolved as error:
            if not error.passing:
                # The same words as for a private address: names inside must not be told apart.
                raise WebhookRefused(_NOT_PUBLIC) from None
        return target

    def _trusts(self, target: Target) -> bool:
        if target.address is not None:
            return self._allowed.address(target.address)
        return self._allowed.name(target.host)
