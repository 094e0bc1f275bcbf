"""`REDIS_URL`, read once: where Redis is and how to get in, for the job store and Celery's broker alike.

    redis://[user:password@]host[:port]/[db]          rediss:// with TLS
    unix://[user:password@]/path/of/socket[?db=0]
    sentinel://[user:password@]host[:port],host[:port]/service[/db]      sentinels:// with TLS

User, password, path and service are percent-encoded. Everything else about a connection is one of the
parameters below, behind `?`; an unknown one is refused, for it would work in one process and not in another.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

PORT = 6379
SENTINEL_PORT = 26379
TLS = {"redis": False, "rediss": True, "unix": False, "sentinel": False, "sentinels": True}
"""The schemes, and whether a connection is encrypted."""
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
TEXTS = (
    "client_name",
    "username",
    "password",
    "sentinel_username",
    "sentinel_password",
    "ssl_password",
)
CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_NODE = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\[\]:,@]+))(?::(?P<port>\d{1,5}))?")
_ENCODE = (
    "a user, password or path with one of / ? # @ : [ ] % is percent-encoded, such as %2F for /"
)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The parts of a URL.

    `nodes` is one host and port, or those of the Sentinels; empty where `path` names a socket. `tls` holds
    redis-py's `ssl_*` arguments, None where a connection is not encrypted; `options` its others.
    """

    scheme: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Raises `ValueError` with what is wrong and what to write instead; never with the password."""
        scheme, separator, _ = url.partition("://")
        if not separator or scheme not in TLS:
            raise ValueError(f"it begins with one of {', '.join(f'{name}://' for name in TLS)}")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError(f"it is no URL; {_ENCODE}") from None
        if parts.fragment or "@" in parts.query:
            raise ValueError(f"it has a # or a ? too many; {_ENCODE}")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        given = {
            name: _parameter(name, value, encrypted=TLS[scheme]) for name, value in query.items()
        }
        username, password = _login(parts, given)
        return cls(
            scheme,
            **_place(scheme, parts, given.pop("db", None)),
            username=username,
            password=password,
            tls=_tls(given) if TLS[scheme] else None,
            sentinel_login=_sentinel_login(scheme, given),
            options=given,
        )

    @property
    def sentinel(self) -> bool:
        return bool(self.service)

    @property
    def unverified(self) -> bool:
        """Whether the user has chosen that no certificate is checked."""
        return self.tls is not None and self.tls["ssl_cert_reqs"] is ssl.CERT_NONE

    @property
    def login(self) -> dict[str, str]:
        """What redis-py takes to get in."""
        both = {"username": self.username, "password": self.password}
        return {name: value for name, value in both.items() if value is not None}

    @property
    def to_sentinels(self) -> dict[str, Any]:
        """redis-py's arguments for the Sentinels themselves, timeouts apart."""
        tls = {} if self.tls is None else {"ssl": True, **self.tls}
        names = {"sentinel_username": "username", "sentinel_password": "password"}
        return {**tls, **{names[name]: value for name, value in self.sentinel_login.items()}}

    def __str__(self) -> str:
        """For people: without what lets its reader in."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        hosts = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes
        )
        return f"{self.scheme}://{hosts}/{f'{self.service}/' if self.service else ''}{self.db}"


def with_ca_file(url: str, ca_file: Path | None) -> str:
    """The URL with the CA file of the settings, where it is encrypted and names none itself."""
    if ca_file is None or not TLS.get(url.partition("://")[0], False) or "ssl_ca_" in url:
        return url
    return (
        f"{url}{'&' if '?' in url else '?'}ssl_ca_certs={quote(str(ca_file.absolute()), safe='/')}"
    )


def _place(scheme: str, parts: SplitResult, db: int | None) -> dict[str, Any]:
    hosts = parts.netloc.rpartition("@")[2]
    if scheme == "unix":
        if hosts or len(parts.path) < 2:
            raise ValueError(
                "unix:// is followed by the path of a socket: unix:///run/redis.sock?db=0"
            )
        return {"path": unquote(parts.path), "db": db or 0}
    sentinel = scheme.startswith("sentinel")
    nodes = tuple(_node(one, SENTINEL_PORT if sentinel else PORT) for one in hosts.split(","))
    path = parts.path.strip("/")
    if not sentinel:
        if len(nodes) > 1:
            raise ValueError(
                "it names several hosts; for Sentinels: sentinel://host:26379,…/SERVICE/0"
            )
        return {"nodes": nodes, "db": _number(path) if db is None else db}
    service, _, number = path.partition("/")
    if not service:
        raise ValueError(
            f"a {scheme}:// URL names the service that the Sentinels watch: "
            f"{scheme}://host:26379,host:26379/SERVICE/0"
        )
    return {
        "nodes": nodes,
        "service": unquote(service),
        "db": _number(number) if db is None else db,
    }


def _node(text: str, port: int) -> tuple[str, int]:
    if not text:
        return "localhost", port
    found = _NODE.fullmatch(text)
    if found is None or int(found["port"] or port) > 65535:
        raise ValueError(f"it names no host and port such as redis:6379 or [::1]:6379; {_ENCODE}")
    return unquote(found["six"] or found["name"]), int(found["port"] or port)


def _number(text: str) -> int:
    if text and not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(f"a database is a number such as /0; {_ENCODE}")
    return int(text or 0)


def _login(parts: SplitResult, given: dict[str, Any]) -> tuple[str | None, str | None]:
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    named = given.pop("username", None), given.pop("password", None)
    return unquote(user) or named[0], unquote(password) or named[1]


def _parameter(name: str, value: str, *, encrypted: bool) -> Any:
    """The value of a parameter, as redis-py takes it."""
    if name.startswith("ssl_") and not encrypted:
        raise ValueError(f"{name} is for an encrypted connection: rediss:// or sentinels://")
    if name in TEXTS:
        return value
    if name in FILES or name == "ssl_ca_path":
        if not Path(value).exists():
            raise ValueError(f"{name}: there is no {value}")
        return value
    match name:
        case "db":
            return _number(value)
        case "protocol":
            return _one_of(name, value, {"2": 2, "3": 3})
        case "health_check_interval" if re.fullmatch(r"[0-9]{1,4}", value):
            return int(value)
        case "ssl_cert_reqs":
            return _one_of(name, value.lower().removeprefix("cert_"), CERT_REQS)
        case "ssl_check_hostname":
            return _one_of(name, value.lower(), BOOLEANS)
        case "ssl_min_version":
            return _one_of(name, value, VERSIONS)
    raise ValueError(
        f"{name} is no parameter of it, or not with this value. There are db, protocol (2 or 3), "
        "client_name, health_check_interval (seconds), ssl_cert_reqs, ssl_ca_certs, ssl_ca_path, "
        "ssl_certfile, ssl_keyfile, ssl_password, ssl_check_hostname, ssl_min_version (1.2 or 1.3), "
        "sentinel_username and sentinel_password; timeouts are set by REDIS_TIMEOUT_SEC"
    )


def _one_of(name: str, value: str, known: Mapping[str, Any]) -> Any:
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return known[value]


def _tls(given: dict[str, Any]) -> dict[str, Any]:
    """Take the `ssl_*` parameters; a certificate is checked, and its name, where nothing else is said."""
    named = {name: given.pop(name) for name in list(given) if name.startswith("ssl_")}
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True, **named}


def _sentinel_login(scheme: str, given: dict[str, Any]) -> dict[str, str]:
    named = {name: given.pop(name) for name in list(given) if name.startswith("sentinel_")}
    if named and not scheme.startswith("sentinel"):
        raise ValueError(f"{next(iter(named))} is for sentinel:// and sentinels://")
    return named
