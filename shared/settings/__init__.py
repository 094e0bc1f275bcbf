"""Settings from the environment, and the secrets that a server makes for itself."""

from shared.settings.environment import SECRETS, Settings, load_settings
from shared.settings.token import (
    ensure_token,
    is_loopback,
    key_secret,
    require_token_beyond_loopback,
    token_file,
)

__all__ = [
    "SECRETS",
    "Settings",
    "ensure_token",
    "is_loopback",
    "key_secret",
    "load_settings",
    "require_token_beyond_loopback",
    "token_file",
]
