"""The default tenant's token and the secret of keys: given, or made at the first start."""

import ipaddress
import os
import secrets
from pathlib import Path

from shared.domain.errors import ConfigError
from shared.settings.environment import Settings
from shared.settings.state_dir import private_file, private_folder


def is_loopback(host: str) -> bool:
    """Whether who listens at this host name or address is heard on this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def require_token_beyond_loopback(settings: Settings, host: str) -> None:
    """Raises `ConfigError` where other machines could reach a server whose token nobody chose."""
    if settings.api_token is None and not is_loopback(host):
        raise ConfigError(
            f"TRUTHGPT_API_TOKEN: not set; host {host} is open to other machines and needs a token "
            "of your choice (16 characters or more)"
        )


def key_secret(settings: Settings) -> str:
    """The secret under which API keys are kept: its own, else the default tenant's token.

    Every machine of a deployment has one of the two anyway. Raises `ConfigError` where this one has
    neither: keys made under a secret of its own would be of no use at the server.
    """
    if settings.api_key_secret is not None:
        return settings.api_key_secret
    if settings.api_token is not None:
        return settings.api_token
    try:
        return token_file(settings).read_text("utf-8").strip()
    except OSError:
        raise ConfigError(
            "TRUTHGPT_API_TOKEN: not set, and no server has stored one in "
            f"{settings.state_dir}; API keys need the server's"
        ) from None


def token_file(settings: Settings) -> Path:
    """Where a token that the server made for itself is kept."""
    return settings.state_dir.expanduser() / "token"


def ensure_token(settings: Settings) -> tuple[str, Path | None]:
    """The default tenant's token and, when it is the server's own, the file with it (mode 0600).

    Makes and stores one where none is set. Safe when several processes start at once. Raises `ConfigError`
    where the state directory or the file is somebody else's.
    """
    if settings.api_token is not None:
        return settings.api_token, None
    path = token_file(settings)
    private_folder(path.parent)
    fresh = path.with_name(f".token-{os.getpid()}-{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("tg_" + secrets.token_urlsafe(32) + "\n")
    try:
        os.link(fresh, path)
    except FileExistsError:
        # Another process was first: its token is everybody's.
        pass
    finally:
        fresh.unlink()
    private_file(path)
    return path.read_text("utf-8").strip(), path
