"""Where results go."""

from pathlib import Path

import msgspec


def write(result: msgspec.Struct, text: str, folder: Path, stem: str) -> None:
    """A result as JSON and its report as Markdown, side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    document = msgspec.json.format(msgspec.json.encode(result), indent=1)
    for suffix, content in ((".md", text.encode()), (".json", document + b"\n")):
        path = folder / f"{stem}{suffix}"
        path.write_bytes(content)
        print(f"wrote {path}")
