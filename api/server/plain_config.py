"""gunicorn's configuration as plain attributes.

gunicorn looks at some thirty of its settings with each request, each time through two calls of Python
(`gunicorn.config.Config.__getattr__`). In a worker no setting changes any more.
"""

from typing import Any

from gunicorn.config import Config


class PlainConfig(Config):  # type: ignore[misc]
    """What `config` says, and everything that it can do."""

    def __init__(self, config: Config) -> None:
        found: dict[str, Any] = self.__dict__
        found.update(vars(config))
        self._encrypted = config.is_ssl
        # Of a name that gunicorn gives a property, the property is found first.
        found.update({name: setting.get() for name, setting in config.settings.items()})

    @property
    def is_ssl(self) -> Any:
        """Whether connections are encrypted, which it works out from two others."""
        return self._encrypted
