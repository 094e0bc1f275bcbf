"""What each engine accepts as `input` or `prompt`: texts, chats, token ids, pairs, files."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag, TypeAdapter

from shared.domain.requests.chats import Chat
from shared.domain.requests.request_faults import CHOSEN
from shared.domain.wire import Wire

MAX_TEXTS = 512
MAX_PROMPT_TOKENS = 1_000_000
LARGEST_TOKEN_ID = 2**31 - 1
MAX_DOCUMENTS = 512

Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]


def whole_ids(given: Any) -> Any:
    """1.0 is an integer to JSON Schema, so it is one here."""
    if isinstance(given, list) and any(type(value) is float for value in given):
        return [int(v) if type(v) is float and v.is_integer() else v for v in given]
    return given


TokenIds = Annotated[
    list[Annotated[int, Strict(), Field(ge=0, le=LARGEST_TOKEN_ID)]],
    Field(min_length=1, max_length=MAX_PROMPT_TOKENS, fail_fast=True),
    BeforeValidator(whole_ids),
]
"""A prompt that is tokenised already."""
TOKEN_IDS_SCHEMA = TypeAdapter(TokenIds).json_schema()


class Candidates(Wire):
    """Documents to be ranked by their relevance to a query."""

    query: str
    documents: list[str] = Field(min_length=1, max_length=MAX_DOCUMENTS, fail_fast=True)
    top_n: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="How many of the best are told; all if left out.",
    )


TextPair = Annotated[list[str], Field(min_length=2, max_length=2)]
Pairs = Annotated[list[TextPair], Field(min_length=1, max_length=MAX_DOCUMENTS)]


def _one_of(words: str) -> Discriminator:
    """Told apart by JSON type: a fault is then said of the kind that was sent, and only of it."""
    return Discriminator(
        lambda value: _KINDS.get(type(value), ""),
        custom_error_type="input_type",
        custom_error_message=f"Input should be {words}",
    )


_KINDS: dict[type, str] = {str: "text", list: "list", dict: "chat"}
_Text = Annotated[str, Tag("text")]
Prompt = Annotated[
    _Text | Annotated[TokenIds, Tag("list")] | Annotated[Chat, Tag("chat")],
    _one_of("a string, a list of token ids or an object with 'messages'"),
]


def _embedded_kind(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else None
    if type(first) in (int, float):
        return CHOSEN + "ids"
    kind = "id lists" if isinstance(first, list) else _KINDS.get(type(value), "")
    return CHOSEN + kind


def to_embed(most: int) -> Any:
    """The type of what is embedded: a text or its token ids, or a list of at most `most` of them."""
    texts = Annotated[list[str], Field(min_length=1, max_length=most)]
    ids = Annotated[list[TokenIds], Field(min_length=1, max_length=most)]
    return Annotated[
        Annotated[str, Tag(CHOSEN + "text")]
        | Annotated[texts, Tag(CHOSEN + "list")]
        | Annotated[TokenIds, Tag(CHOSEN + "ids")]
        | Annotated[ids, Tag(CHOSEN + "id lists")],
        Discriminator(
            _embedded_kind,
            custom_error_type="input_type",
            custom_error_message="Input should be a string or a list of strings",
        ),
    ]


TextsOrIds = to_embed(MAX_TEXTS)
ID_KINDS = 2
"""How many of its kinds are token ids: the last ones."""


def items_to_embed(content: Any) -> list[Any]:
    """What is to be embedded one by one: texts, or lists of token ids."""
    if not isinstance(content, list):
        return [content]
    return [content] if content and type(content[0]) in (int, float) else content


class FileInput(Wire):
    """A file of the caller's tenant, which was uploaded before (`POST /v1/files`)."""

    file: str = Field(pattern=r"^file-[0-9a-f]{32}$")


class ImageInput(Wire):
    """An image as base64, or as a data: URL with it."""

    image: str | FileInput = Field(description="PNG, JPEG, WebP, GIF, BMP or TIFF in base64.")


class AudioInput(Wire):
    """A sound as base64, or as a data: URL with it."""

    audio: str | FileInput = Field(description="A WAV file (PCM) in base64.")


def _medium(value: Any) -> str:
    if isinstance(value, dict):
        return "audio" if "audio" in value else "image"
    return _KINDS.get(type(value), "") if isinstance(value, str) else ""


TextOrFile = Annotated[
    _Text | Annotated[ImageInput, Tag("image")] | Annotated[AudioInput, Tag("audio")],
    Discriminator(
        _medium,
        custom_error_type="input_type",
        custom_error_message="Input should be a string, or an object with 'image' or 'audio'",
    ),
]


def _ranking_kind(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], list):
        return "pairs"
    kind = _KINDS.get(type(value), "")
    return "candidates" if kind == "chat" else kind


TextsToRank = Annotated[
    _Text
    | Annotated[Texts, Tag("list")]
    | Annotated[Pairs, Tag("pairs")]
    | Annotated[Candidates, Tag("candidates")],
    Discriminator(
        _ranking_kind,
        custom_error_type="input_type",
        custom_error_message="Input should be an object with 'query' and 'documents', a list of pairs of "
        "strings, a string or a list of strings",
    ),
]
