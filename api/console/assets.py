"""Scripts, styles and the icon of the console: read once, compressed once, named by what is in them.

A name with a digest may be kept for ever by browsers and proxies: another content has another name.
"""

import gzip
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

PATH = "/console/static"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file as it is sent: as it is, or compressed for who takes that."""

    url: str
    content_type: str
    plain: bytes
    compressed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Every asset of the console by its name in the URL, plain and compressed; read once a process."""
    files = sorted(path for path in _FOLDER.rglob("*") if path.suffix in _TYPES)
    made = (_asset(path) for path in files)
    return {asset.url.rpartition("/")[2]: asset for asset in made}


@cache
def url_of(name: str) -> str:
    """Where the file of this plain name is. Raises `KeyError` where there is none."""
    stem, _, suffix = name.rpartition(".")
    for asset in assets().values():
        head, _, tail = asset.url.removeprefix(f"{PATH}/").rpartition(".")
        if head.rpartition(".")[0] == stem and tail == suffix:
            return asset.url
    raise KeyError(name)


def _asset(path: Path) -> Asset:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:12]
    url = f"{PATH}/{path.stem}.{digest}{path.suffix}"
    return Asset(url, _TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0))
