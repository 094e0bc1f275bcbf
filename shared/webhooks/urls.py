"""A webhook's URL, taken apart strictly: what two parsers could read in two ways is refused."""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import urlsplit

import idna

from shared.domain.errors import InvalidRequest
from shared.webhooks.addresses import Address

MAX_LENGTH = 2048
DEFAULT_PORTS = {"https": 443, "http": 80}

_VISIBLE = re.compile(r"[^\s\x00-\x20\x7f-\xa0\\\ufeff]+")
_NETLOC = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^][:@/%]+)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


class WebhookRefused(InvalidRequest):
    """A webhook's URL at which this server sends nothing."""

    code = "webhook_refused"

    def __init__(self, why: str) -> None:
        row = {"loc": ["webhook", "url"], "msg": why, "type": "webhook_refused"}
        super().__init__(f"webhook.url {why}.", errors=[row])


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook goes. `host` is in ASCII and lower case; `address` is set where it is a literal."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them; the port is left out where it is the scheme's own."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def receiver(self) -> str:
        """Host and port: what a circuit is kept for."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_target(url: str) -> Target:
    """Take a URL apart. Raises `WebhookRefused`; nothing is resolved here."""
    if len(url) > MAX_LENGTH:
        raise WebhookRefused(f"must be at most {MAX_LENGTH} characters")
    if not _VISIBLE.fullmatch(url):
        raise WebhookRefused("must hold no spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise WebhookRefused("is not a URL") from None
    scheme = parts.scheme.lower()
    if scheme not in DEFAULT_PORTS or not url[len(scheme) :].startswith("://"):
        raise WebhookRefused("must begin with https://")
    if "@" in parts.netloc:
        raise WebhookRefused("must hold no user name or password")
    if "#" in url:
        raise WebhookRefused("must have no fragment")
    found = _NETLOC.fullmatch(parts.netloc)
    if found is None:
        raise WebhookRefused("has no host that can be read in one way only")
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port < 65536:
        raise WebhookRefused("has no valid port")
    host, address = _host(found["host"])
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not path.isascii():
        raise WebhookRefused("must have its path and query percent-encoded")
    return Target(scheme, host, port, path, address)


def _in_ascii(label: str) -> str:
    """A label of a host name, beside which there may be such as `my_service`. Raises `UnicodeError`."""
    if label.isascii():
        return label
    return idna.encode(label, uts46=True, std3_rules=True).decode("ascii")


def _host(given: str) -> tuple[str, Address | None]:
    try:
        if given.startswith("["):
            literal = IPv6Address(given[1:-1])
            return str(literal), literal
        name = given.lower()
        if not name.isascii():
            name = ".".join(map(_in_ascii, re.split("[.\u3002\uff0e\uff61]", name)))
        # Whatever ends in a number is an IPv4 address to browsers and C libraries: 0x7f.1, 127.1, 017.
        if _NUMBER.fullmatch(name.removesuffix(".").rpartition(".")[2]):
            four = IPv4Address(name)
            return str(four), four
    except (AddressValueError, UnicodeError):
        raise WebhookRefused("has a host that is neither a name nor a plain address") from None
    if not _NAME.fullmatch(name):
        raise WebhookRefused("has a host that is neither a name nor a plain address")
    return name, None
