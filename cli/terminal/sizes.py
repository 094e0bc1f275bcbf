"""Parses numbers of bytes given as options."""

from typing import Any

import click
from pydantic import ByteSize, TypeAdapter, ValidationError

_size: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)


class Size(click.ParamType[int]):
    """`512MiB`, `2GB`, `1048576`: bytes, 0 or more."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            size = int(_size.validate_python(value))
        except ValidationError:
            size = -1
        if size < 0:
            self.fail(f"{value!r} is not a number of bytes such as 512MiB", param, ctx)
        return size
