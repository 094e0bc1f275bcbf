"""Where settings come from: variables of the environment."""

import os
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource


class DocumentedNames(PydanticBaseSettingsSource):
    """The environment, by the documented names and no others: `MODEL` and `api_token` are another program's.

    An empty variable is one that is not set: so Compose writes `REDIS_URL=${REDIS_URL}` where there is none.
    """

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        name = str(field.alias)
        return os.environ.get(name) or None, name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields.items()
        found = [self.get_field_value(field, name) for name, field in fields]
        return {name: value for value, name, _ in found if value is not None}
