"""The one spelling of Redis behind Sentinels: `sentinel://[user:password@]host:port,host:port/service/db`."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

SCHEME = "sentinel://"
PORT = 26379


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """Its parts. `login` is as it stands in the URL, '' where there is none."""

    login: str
    nodes: tuple[tuple[str, int], ...]
    service: str
    db: int

    @classmethod
    def parse(cls, url: str) -> "SentinelUrl | None":
        """None for a URL of another kind. Raises `ValueError` where the service is not named."""
        if not url.startswith(SCHEME):
            return None
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        nodes = (node.partition(":") for node in hosts.split(","))
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            raise ValueError(
                "a sentinel:// URL names the service that the Sentinels watch: "
                "sentinel://host:26379,host:26379/SERVICE/0"
            )
        return cls(
            login,
            tuple((host, int(port or PORT)) for host, _, port in nodes),
            service,
            int(db or 0),
        )

    @property
    def password(self) -> str | None:
        """Of the Redis servers."""
        return unquote(self.login.rpartition(":")[2]) if self.login else None

    @property
    def for_kombu(self) -> str:
        """One URL a Sentinel; the service goes apart, as the transport option `master_name`."""
        prefix = f"{self.login}@" if self.login else ""
        return ";".join(f"{SCHEME}{prefix}{host}:{port}/{self.db}" for host, port in self.nodes)
