"""What each task of a pipeline answers: the schema of a job's `output`, as `shared.domain.outputs` has other
engines'.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Output(BaseModel):
    model_config = ConfigDict(extra="allow")


class OutputFile(BaseModel):
    """A file of the tenant, with `files: true`."""

    file: str


class ScoredLabel(BaseModel):
    label: str
    score: float


class Box(BaseModel):
    """Pixels of the image, from its upper left corner."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int


class FoundObject(ScoredLabel):
    box: Box


class Segment(BaseModel):
    label: str | None
    score: float | None = Field(description="null where the model gives none.")
    mask: str | OutputFile = Field(
        description="An image, white where the segment is: PNG in base64."
    )


class Depth(_Output):
    predicted_depth: list[list[float]] | list[list[list[float]]]
    depth: str | OutputFile = Field(description="The same as an image: PNG in base64.")


class Sound(BaseModel):
    audio: list[float] | list[list[float]] | list[list[list[float]]] | OutputFile
    sampling_rate: int


class TranscribedPart(_Output):
    text: str
    timestamp: tuple[float | None, float | None] = Field(description="Seconds: beginning and end.")


class Transcript(_Output):
    """What was said in a sound; `chunks` with `return_timestamps`."""

    text: str
    chunks: list[TranscribedPart] | None = None


class LabelledToken(_Output):
    """A token, or with `aggregation_strategy` a group of them; places are in characters."""

    entity: str | None = None
    entity_group: str | None = None
    score: float
    word: str
    start: int | None
    end: int | None


class Filling(BaseModel):
    score: float
    token: int
    token_str: str
    sequence: str = Field(description="The text with it.")


class ScoredLabels(BaseModel):
    """The labels of the request, the likeliest first."""

    sequence: str
    labels: list[str]
    scores: list[float]


class Translation(BaseModel):
    translation_text: str


class Summary(BaseModel):
    summary_text: str


class GeneratedText(BaseModel):
    generated_text: str


_LABELS = TypeAdapter(list[ScoredLabel])
_OBJECTS = TypeAdapter(list[FoundObject])

PIPELINE_OUTPUTS: dict[str, TypeAdapter[Any]] = {
    "text-classification": _LABELS,
    "token-classification": TypeAdapter(list[LabelledToken]),
    "fill-mask": TypeAdapter(list[Filling] | list[list[Filling]]),
    "zero-shot-classification": TypeAdapter(ScoredLabels),
    "translation": TypeAdapter(Translation),
    "summarization": TypeAdapter(Summary),
    "text2text-generation": TypeAdapter(GeneratedText),
    "text-to-audio": TypeAdapter(Sound),
    "image-classification": _LABELS,
    "image-feature-extraction": TypeAdapter(
        list[list[list[float]]] | list[list[list[list[float]]]]
    ),
    "object-detection": _OBJECTS,
    "image-segmentation": TypeAdapter(list[Segment]),
    "depth-estimation": TypeAdapter(Depth),
    "zero-shot-image-classification": _LABELS,
    "zero-shot-object-detection": _OBJECTS,
    "automatic-speech-recognition": TypeAdapter(Transcript),
    "audio-classification": _LABELS,
    "zero-shot-audio-classification": _LABELS,
}
"""By task."""
