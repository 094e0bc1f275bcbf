"""The contests: what is asked of each subject, and what its answers are worth beside ours."""

import base64
import math
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from transformers import AutoTokenizer

from bench.engines.reader import parse
from bench.engines.workload import demands, sentences
from bench.models.asking import Answered
from bench.models.subjects import (
    INFINITY_MODEL,
    LLAMA,
    Infinity,
    LitServe,
    Subject,
    Whole,
    minilm,
)

Answers = Sequence[Any]
"""One a job: a text, or a list of vectors."""
CLOSE = 0.999
"""The least cosine of two vectors that count as the same."""
STREAMS = 32


@dataclass(frozen=True, slots=True)
class Side:
    """A subject, the bodies that it is sent, and how its answers are read.

    `read` gives what the answers say, and how much work they are: tokens, or texts. `goal`: see `Entry`.
    """

    subject: Subject
    bodies: list[Any]
    read: Callable[[Answered], tuple[Answers, int]]
    goal: float = 0.0


@dataclass(frozen=True, slots=True)
class Contest:
    """The first side is ours. `alike` compares one answer of a peer with ours. Goals: see `Outcome`."""

    name: str
    title: str
    unit: str
    clients: int
    rate_goal: float
    p95_goal: float
    least: float
    alike: Callable[[Any, Any], bool]
    sides: list[Side]


def generation(jobs: int) -> Contest:
    """Many short answers and few long ones, streamed."""
    prompts = sentences(jobs, middle=25)
    wanted = [demand.wanted for demand in demands(jobs)]
    asked = list(zip(prompts, wanted, strict=True))
    ours = [
        {"model": LLAMA.name, "prompt": prompt, "params": {"max_new_tokens": most}}
        for prompt, most in asked
    ]
    theirs = [{"prompt": prompt, "max_new_tokens": most} for prompt, most in asked]
    entry = {
        "engine": "text-generation",
        "path": str(LLAMA),
        "device": "cpu",
        "dtype": "float32",
        "batch": {"max_size": STREAMS},
    }
    return Contest(
        name="generation",
        title=f"demo-llama, {jobs} prompts, 8 to 256 tokens each, {STREAMS} streams",
        unit="tokens",
        clients=STREAMS,
        rate_goal=3.0,
        p95_goal=0.5,
        # Padding changes the rounding of a batch, and once in a while a token.
        least=0.95,
        alike=str.__eq__,
        sides=[
            Side(Whole(LLAMA.name, entry, "/v1/infer/stream"), ours, _streamed),
            Side(LitServe("litserve_llama", LLAMA, STREAMS), theirs, _token_lines),
        ],
    )


def embedding(jobs: int, texts: int, clients: int, batches: Sequence[int]) -> Contest:
    """Sentences to vectors, `texts` a job; LitServe with batches of each of several sizes, and Infinity."""
    chance = random.Random(2)
    corpus = sentences(jobs * texts)
    chance.shuffle(corpus)
    inputs = [corpus[n * texts : (n + 1) * texts] for n in range(jobs)]
    name = "all-minilm"
    ours = [{"model": name, "input": some} for some in inputs]
    theirs = [{"input": some} for some in inputs]
    infinity = [{"model": INFINITY_MODEL, "input": some} for some in inputs]
    return Contest(
        name=f"embedding-{texts}",
        title=f"all-minilm, {jobs} jobs of {texts} text{'s' if texts > 1 else ''}, {clients} clients",
        unit="texts",
        clients=clients,
        rate_goal=1.2,
        p95_goal=0.0,
        least=1.0,
        alike=_close,
        sides=[
            Side(Whole(name, encoder(), "/v1/infer"), ours, _ours_embedded),
            *(
                Side(LitServe("litserve_minilm", minilm(), size), theirs, _their_embedded, 2.8)
                for size in batches
            ),
            Side(Infinity(minilm()), infinity, _infinity_embedded, 1.2),
        ],
    )


def encoder() -> dict[str, Any]:
    """The encoder's entry in our catalogue."""
    return {
        "engine": "embedding",
        "path": str(minilm()),
        "device": "cpu",
        "dtype": "float32",
        "limits": {"max_prompt_tokens": 256},
    }


def openai_embeddings(
    jobs: int, texts: int, clients: int, model: str = "all-minilm", path: Path | None = None
) -> Contest:
    """The same in OpenAI's form: vectors in base64, beside floats in JSON and LitServe's server of that form,
    which takes a list of texts only without batches of its own.

    `path`: an encoder of the package's tokenizer, in the place of its own.
    """
    ours, *_ = embedding(jobs, texts, clients, ()).sides
    folder = path or minilm()
    entry = {**encoder(), "path": str(folder)}
    in_base64, in_floats = (Whole(model, entry, "/v1/embeddings") for _ in range(2))
    in_base64.name, in_floats.name = (f"{in_base64.name}, {form}" for form in ("base64", "floats"))
    asked = [{"model": model, "input": body["input"]} for body in ours.bodies]
    if path is not None:
        # Texts of one word: what is measured is how vectors are told.
        asked = [
            {**one, "input": [" ".join(text.split()[:1]) for text in one["input"]]} for one in asked
        ]
    packed = [{**body, "encoding_format": "base64"} for body in asked]
    floats = [{**body, "encoding_format": "float"} for body in asked]
    theirs = LitServe("litserve_openai_minilm", folder, 1)
    theirs.path = "/v1/embeddings"
    return Contest(
        name=f"openai-embeddings{'-thin' if path else ''}",
        title=f"{model} as OpenAI's, {jobs} requests of {texts} texts, {clients} clients",
        unit="texts",
        clients=clients,
        rate_goal=1.5,
        p95_goal=0.0,
        least=1.0,
        alike=_close,
        sides=[
            Side(in_base64, packed, _openai_embedded),
            Side(in_floats, floats, _openai_embedded),
            Side(theirs, packed, _openai_embedded),
        ],
    )


def _openai_embedded(answered: Answered) -> tuple[Answers, int]:
    answers = [msgspec.json.decode(each)["data"] for each in answered.contents]
    return _vectors(
        [{"embeddings": [_unpacked(row["embedding"]) for row in rows]} for rows in answers]
    )


def _unpacked(vector: str | list[float]) -> list[float]:
    """A vector in floats: as they are, or from little-endian float32 in base64."""
    return vector if isinstance(vector, list) else list(array("f", base64.b64decode(vector)))


def _streamed(answered: Answered) -> tuple[Answers, int]:
    texts, tokens = [], 0
    for content in answered.contents:
        told = parse_body(content)
        texts.append("".join(token.text for token in told.tokens))
        tokens += told.job["usage"]["completion_tokens"]
    return texts, tokens


def parse_body(content: bytes) -> Any:
    """A stream's content as `bench.engines.reader` reads one that arrives."""
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    return parse([(0.0, head + b"%x\r\n%b\r\n" % (len(content), content))])


def _token_lines(answered: Answered) -> tuple[Answers, int]:
    tokenizer = AutoTokenizer.from_pretrained(LLAMA)
    decode = msgspec.json.Decoder().decode
    tokens = [
        [decode(line)["token"] for line in content.splitlines()] for content in answered.contents
    ]
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokens]
    return texts, sum(len(ids) for ids in tokens)


def _ours_embedded(answered: Answered) -> tuple[Answers, int]:
    return _vectors([msgspec.json.decode(each)["output"] for each in answered.contents])


def _their_embedded(answered: Answered) -> tuple[Answers, int]:
    return _vectors([msgspec.json.decode(each) for each in answered.contents])


def _infinity_embedded(answered: Answered) -> tuple[Answers, int]:
    rows = [msgspec.json.decode(each)["data"] for each in answered.contents]
    return _vectors([{"embeddings": [row["embedding"] for row in some]} for some in rows])


def _vectors(outputs: list[Any]) -> tuple[Answers, int]:
    vectors = [output["embeddings"] for output in outputs]
    return vectors, sum(len(some) for some in vectors)


def _close(ours: list[list[float]], theirs: list[list[float]]) -> bool:
    return len(ours) == len(theirs) and all(
        _cosine(mine, other) > CLOSE for mine, other in zip(ours, theirs, strict=True)
    )


def _cosine(one: list[float], other: list[float]) -> float:
    norm = math.sqrt(_dot(one, one) * _dot(other, other))
    return _dot(one, other) / norm


def _dot(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))
