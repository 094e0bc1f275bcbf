#!/usr/bin/env python3
"""Train a very small Llama on the Python language reference and save it for the demos.

The text is ``pydoc_data.topics``, the part of the Python documentation that every CPython
installation carries for ``help()``, so nothing is downloaded.  The script cleans that text, trains
a byte-level BPE tokenizer on it, trains a Llama of a few million parameters on one CPU core, and
writes a directory that ``AutoTokenizer`` and ``AutoModelForCausalLM`` open, with a model card in
which every figure was measured by the same run.

Run it from the repository root::

    python examples/train_demo_model.py --out models/demo-llama

The same seed, settings, Python, library versions and kind of CPU give the same weights when one
thread is used.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import random
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics as pydoc_topics

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

EOS_TOKEN = "<|endoftext|>"
EOS_ID = 0
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
MAX_POSITIONS = 1024
SIZE_LIMIT_BYTES = 8_000_000
PROMPTS = ("The function returns", "A class definition", "An exception is raised when")
TEMPERATURE = 0.7
TOP_P = 0.95
NEW_TOKENS = 80


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a run."""

    out: Path
    steps: int
    seed: int
    threads: int
    batch_size: int  # windows per step
    context: int  # tokens per window
    vocab_size: int
    hidden_size: int
    layers: int
    muon_rate: float  # peak learning rate of the matrices inside the layers
    adam_rate: float  # peak learning rate of the embedding and the norms
    weight_decay: float  # of the matrices inside the layers
    dropout: float  # share of the features zeroed while training
    held_out: float  # share of the characters
    log_every: int  # steps


@dataclass(frozen=True)
class Document:
    """One help topic after cleaning; its paragraphs are separated by blank lines."""

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """The documents that are trained on and those that are kept for measuring."""

    train: tuple[Document, ...]
    held_out: tuple[Document, ...]

    @property
    def train_chars(self) -> int:
        return sum(len(document.text) for document in self.train)

    @property
    def held_out_chars(self) -> int:
        return sum(len(document.text) for document in self.held_out)

    def digest(self) -> str:
        """SHA-256 of the cleaned text and its split, to tell two corpora apart."""
        sha = hashlib.sha256()
        for part in (self.train, self.held_out):
            for document in part:
                sha.update(f"{document.name}\0{document.text}\0".encode())
            sha.update(b"\0")
        return sha.hexdigest()


@dataclass(frozen=True)
class Loss:
    """Cross-entropy over some documents, every token of them predicted once."""

    nats_per_token: float
    bits_per_char: float
    tokens: int

    def __str__(self) -> str:
        return (
            f"{self.nats_per_token:.3f} nats/token, {self.bits_per_char:.3f} bits/char "
            f"({self.tokens} tokens)"
        )


@dataclass(frozen=True)
class Curve:
    """What the training loop measured."""

    tokens_seen: int
    seconds: float  # by the clock
    cpu_seconds: float  # of this process; less than `seconds` where the machine is shared
    best_step: int  # where the held-out loss was lowest among the steps that were measured
    best_held_out: Loss


@dataclass(frozen=True)
class Sample:
    """A continuation of one prompt by the saved model."""

    how: str
    text: str  # prompt and continuation
    copied_chars: int  # longest stretch of the continuation that is in the training text


# --------------------------------------------------------------------------------------------------
# Text
# --------------------------------------------------------------------------------------------------

_STRAIGHT = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": "--", "–": "-", "…": "..."})
_UNDERLINE = re.compile(r"^([*=\-~^\"#])\1{2,}$")
_STRONG = re.compile(r"(?<![\w*\"'])\*\*([A-Za-z][\w .:()'-]*?)\*\*(?![\w*])")
_EMPHASIS = re.compile(r"(?<![\w*\"'])\*([A-Za-z_][\w .-]*?)\*(?![\w*])")
_FOOTNOTE_MARK = re.compile(r"(?<=[\w.,;:)\"])\s+\[\d+\](?=[\s.,;:)]|$)")
_FOOTNOTE_START = re.compile(r"^\[\d+\]\s+")
_ITEM = re.compile(r"^(?:\*|\d+\.)\s+")
_HYPHENATED = re.compile(r"(?<=[a-z])-\n\s*(?=[a-z])")
_CODE = re.compile(r"^(?:>>>|\.\.\.|#|\(Pdb\))|  #|\"\"\"$")
_WORDS = re.compile(r"\b[a-z]+(?:\s+[a-z]+){4}\b")  # no statement has five plain words in a row
_FEWEST_PROSE_WORDS = 4
_SHORT_PARAGRAPH = 40  # characters; signatures and headings may repeat, longer text may not


def tidy_line(text: str) -> str:
    """Put wrapped text on one line and drop reStructuredText emphasis and footnote marks."""
    text = " ".join(_HYPHENATED.sub("-", text).split())
    text = _FOOTNOTE_MARK.sub("", _FOOTNOTE_START.sub("", text))
    return _EMPHASIS.sub(r"\1", _STRONG.sub(r"\1", text))


def indent_of(line: str) -> int:
    """Number of spaces that a line starts with."""
    return len(line) - len(line.lstrip(" "))


def tidy_prose(block: str) -> str:
    """Reflow a paragraph; a term with its indented definition becomes "term: definition"."""
    lines = block.splitlines()
    marked = _ITEM.match(lines[0].lstrip()) or _FOOTNOTE_START.match(lines[0].lstrip())
    if marked or len(lines) == 1 or indent_of(lines[1]) <= indent_of(lines[0]):
        return tidy_line(block)
    return f"{tidy_line(lines[0])}: {tidy_line(chr(10).join(lines[1:]))}"


def is_prose(block: str) -> bool:
    """Tell sentences, which are reflowed, from code and signatures, which keep their lines."""
    text = block.strip()
    if _CODE.search(text):
        return False
    if text.startswith("**") or _ITEM.match(text) or _FOOTNOTE_START.match(text):
        return True
    if _WORDS.search(text):
        return True
    starts = text[0].isupper() or text[0] in "\"'*" or text.startswith("a ")
    ends = text[-1] in ".:;,?!)"
    return starts and ends and len(text.split()) >= _FEWEST_PROSE_WORDS


def is_dropped(lines: Sequence[str]) -> bool:
    """Tables and grammar productions: neither reads as prose nor runs as code."""
    first = lines[0].lstrip()
    return first.startswith(("+--", "+==", "|", "-[")) or any("::=" in line for line in lines)


def split_items(block: str) -> Iterator[str]:
    """Split a block at the lines that start a list item."""
    item: list[str] = []
    for line in block.splitlines():
        if item and _ITEM.match(line.lstrip()):
            yield "\n".join(item)
            item = []
        item.append(line)
    yield "\n".join(item)


def clean_topic(text: str) -> list[str]:
    """Turn one plain-text help topic into paragraphs without hard wraps, tables or grammar."""
    paragraphs: list[str] = []
    literal: list[str] = []  # neighbouring code blocks keep their indentation to one another

    def flush() -> None:
        if literal:
            paragraphs.extend(textwrap.dedent("\n\n".join(literal)).split("\n\n"))
            literal.clear()

    for block in re.split(r"\n\s*\n", text.translate(_STRAIGHT).strip("\n")):
        lines = block.splitlines()
        if not block.strip() or is_dropped(lines):
            continue
        if len(lines) > 1 and _UNDERLINE.match(lines[1].strip()):
            flush()
            paragraphs.append(tidy_prose(lines[0]))
        elif is_prose(block):
            flush()
            paragraphs.extend(tidy_prose(item) for item in split_items(block))
        else:
            literal.append(block.rstrip())
    flush()
    return paragraphs


def clean_documents(raw: Mapping[str, str]) -> list[Document]:
    """Clean every topic and keep each longer paragraph once.

    Many topics are sections of a longer one.  Without this, text of a held-out topic would also be
    in the training set.  Longer topics go first; one that is left with less than half of its text
    is dropped.
    """
    seen: set[str] = set()
    documents: list[Document] = []
    for name in sorted(raw, key=lambda key: (-len(raw[key]), key)):
        paragraphs = clean_topic(raw[name])
        fresh = [p for p in paragraphs if len(p) < _SHORT_PARAGRAPH or p not in seen]
        seen.update(paragraphs)
        new_chars = sum(len(p) for p in fresh if len(p) >= _SHORT_PARAGRAPH)
        if 2 * new_chars >= sum(map(len, paragraphs)):
            documents.append(Document(name, "\n\n".join(fresh)))
    return documents


def split_corpus(documents: Sequence[Document], share: float, seed: int) -> Corpus:
    """Keep whole documents, chosen at random, for measuring: at most `share` of the characters."""
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)
    room = share * sum(len(document.text) for document in shuffled)
    train: list[Document] = []
    held_out: list[Document] = []
    for document in shuffled:
        if len(document.text) <= room:
            held_out.append(document)
            room -= len(document.text)
        else:
            train.append(document)
    return Corpus(tuple(train), tuple(held_out))


# --------------------------------------------------------------------------------------------------
# Tokenizer, model and measuring
# --------------------------------------------------------------------------------------------------


def train_tokenizer(texts: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE: the end-of-text token, the 256 bytes, and merges learned from `texts`."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS_TOKEN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=EOS_TOKEN,
        eos_token=EOS_TOKEN,
        pad_token=EOS_TOKEN,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> list[int]:
    """Token ids of a document between two end-of-text tokens."""
    ids: list[int] = tokenizer.encode(document.text, add_special_tokens=False, verbose=False)
    return [EOS_ID, *ids, EOS_ID]


def token_stream(tokenizer: PreTrainedTokenizerFast, documents: Sequence[Document]) -> Tensor:
    """All documents in one row, one end-of-text token between neighbours."""
    stream = [EOS_ID]
    for document in documents:
        stream.extend(encode(tokenizer, document)[1:])
    return torch.tensor(stream)


def build_model(settings: Settings) -> LlamaForCausalLM:
    """A Llama with heads of 32 dimensions, half as many of them for keys and values.

    `pad_token_id` stays unset: it would freeze the embedding of the end-of-text token.
    """
    heads = settings.hidden_size // 32
    config = LlamaConfig(
        vocab_size=settings.vocab_size,
        hidden_size=settings.hidden_size,
        intermediate_size=math.ceil(settings.hidden_size * 8 / 3 / 64) * 64,
        num_hidden_layers=settings.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=EOS_ID,
        eos_token_id=EOS_ID,
    )
    return LlamaForCausalLM(config)


def next_token_loss(model: LlamaForCausalLM, window: Tensor, reduction: str) -> Tensor:
    """Cross-entropy in nats of predicting `window[:, 1:]` from what is before it."""
    logits: Tensor = model(input_ids=window[:, :-1], use_cache=False).logits
    return functional.cross_entropy(
        logits.float().flatten(0, 1), window[:, 1:].flatten(), reduction=reduction
    )


@torch.no_grad()
def measure(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    documents: Sequence[Document],
    context: int,
) -> Loss:
    """Loss over `documents`, read in windows of `context` tokens that share only their ends."""
    was_training = model.training
    model.eval()
    nats, tokens = 0.0, 0
    for document in documents:
        ids = torch.tensor([encode(tokenizer, document)])
        for start in range(0, ids.shape[1] - 1, context):
            window = ids[:, start : start + context + 1]
            nats += next_token_loss(model, window, "sum").item()
            tokens += window.shape[1] - 1
    model.train(was_training)
    chars = sum(len(document.text) for document in documents)
    return Loss(nats / tokens, nats / math.log(2) / chars, tokens)


# --------------------------------------------------------------------------------------------------
# Training
# --------------------------------------------------------------------------------------------------


def orthogonalize(matrix: Tensor) -> Tensor:
    """Bring the singular values of `matrix` near 1 and keep its singular vectors.

    Each round applies the odd polynomial a s + b s^3 + c s^5 to every singular value s.  The
    coefficients and the five rounds are those that K. Jordan published with the Muon optimizer
    (https://kellerjordan.github.io/posts/muon/).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    wide: Tensor = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(5):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.T if tall else wide


class Muon(torch.optim.Optimizer):
    """Momentum whose every step on a matrix is made orthogonal, in float32.

    `torch.optim.Muon` computes in bfloat16.  On a processor without bfloat16 instructions that took
    24 times as long: 2.5 s against 0.10 s for the matrices of the model in the repository.
    """

    def __init__(self, params: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter from its gradient; returns what `closure`, if any, returned."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                rows, columns = parameter.shape
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(parameter))
                average.lerp_(parameter.grad, 1 - momentum)
                update = orthogonalize(parameter.grad.lerp(average, momentum))
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.sub_(update, alpha=lr * math.sqrt(max(1.0, rows / columns)))
        return loss


def make_optimizers(model: LlamaForCausalLM, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    inner = [p for p in model.model.layers.parameters() if p.ndim > 1]
    chosen = {id(p) for p in inner}
    other = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, settings.muon_rate, settings.weight_decay),
        torch.optim.AdamW(other, lr=settings.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def add_dropout(model: LlamaForCausalLM, share: float) -> None:
    """Drop features of the embeddings and of what each layer adds, while `model` trains.

    Llama itself has no such dropout; the hooks are not saved with the weights.
    """

    def drop(module: torch.nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return functional.dropout(output, share, module.training)

    for name, module in model.named_modules():
        if name.endswith(("embed_tokens", "o_proj", "down_proj")):
            module.register_forward_hook(drop)


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: 4 % of the steps up, then a half cosine down to 2 %."""
    warmup = max(1, steps // 25)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def windows(stream: Tensor, settings: Settings) -> Iterator[Tensor]:
    """Endless batches of windows of `context + 1` tokens that start at random places."""
    generator = torch.Generator().manual_seed(settings.seed)
    reach = torch.arange(settings.context + 1)
    while True:
        starts = torch.randint(
            len(stream) - settings.context, (settings.batch_size, 1), generator=generator
        )
        yield stream[starts + reach]


def set_rates(
    optimizers: Sequence[torch.optim.Optimizer], peaks: Sequence[float], share: float
) -> None:
    """Set the learning rate of each optimizer to its peak times `share`."""
    for optimizer, peak in zip(optimizers, peaks, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share


def update(
    model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], window: Tensor
) -> float:
    """One step of every optimizer; returns the loss of the batch in nats per token."""
    loss = next_token_loss(model, window, "mean")
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    settings: Settings,
) -> Curve:
    """Run `settings.steps` steps and print the losses every `log_every` of them."""
    batches = windows(token_stream(tokenizer, corpus.train), settings)
    optimizers = make_optimizers(model, settings)
    peaks = (settings.muon_rate, settings.adam_rate)
    best_step, best = 0, measure(model, tokenizer, corpus.held_out, settings.context)
    print(f"step     0  held out {best.nats_per_token:.3f} nats/token", flush=True)
    add_dropout(model, settings.dropout)
    model.train()
    began, cpu_began = time.perf_counter(), time.process_time()
    for step in range(1, settings.steps + 1):
        set_rates(optimizers, peaks, rate(step - 1, settings.steps))
        batch_loss = update(model, optimizers, next(batches))
        if step % settings.log_every == 0 or step == settings.steps:
            held_out = measure(model, tokenizer, corpus.held_out, settings.context)
            if held_out.nats_per_token < best.nats_per_token:
                best_step, best = step, held_out
            print(
                f"step {step:5d}  {time.perf_counter() - began:6.0f} s  batch {batch_loss:.3f}  "
                f"held out {held_out.nats_per_token:.3f} nats/token",
                flush=True,
            )
    return Curve(
        tokens_seen=settings.steps * settings.batch_size * settings.context,
        seconds=time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu_began,
        best_step=best_step,
        best_held_out=best,
    )


# --------------------------------------------------------------------------------------------------
# Saving and sampling
# --------------------------------------------------------------------------------------------------


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the weights in bfloat16, the configurations and the tokenizer."""
    model.generation_config = GenerationConfig(
        bos_token_id=EOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=EOS_ID,
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
    )
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = MAX_POSITIONS
    tokenizer.chat_template = CHAT_TEMPLATE
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)


def longest_copy(text: str, source: str) -> int:
    """Length in characters of the longest stretch of `text` that occurs in `source`."""
    longest = 0
    for start in range(len(text)):
        while start + longest < len(text) and text[start : start + longest + 1] in source:
            longest += 1
    return longest


def draw_samples(
    out: Path, corpus: Corpus, seed: int, new_tokens: int = NEW_TOKENS
) -> list[Sample]:
    """Reload the directory as a user would, in bfloat16, and continue each of `PROMPTS`."""
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        out, local_files_only=True, dtype=torch.bfloat16
    ).eval()
    source = "\n\n".join(document.text for document in corpus.train)
    samples: list[Sample] = []
    for prompt, greedy in [*((prompt, False) for prompt in PROMPTS), (PROMPTS[0], True)]:
        inputs = tokenizer(prompt, return_tensors="pt")
        how = "greedy" if greedy else f"temperature {TEMPERATURE}, top-p {TOP_P}, seed {seed}"
        options = {"do_sample": False, "temperature": None, "top_p": None} if greedy else {}
        torch.manual_seed(seed)
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=new_tokens,
            **options,
        )
        text: str = tokenizer.decode(output[0], skip_special_tokens=True)
        samples.append(Sample(how, text, longest_copy(text[len(prompt) :], source)))
    return samples


# --------------------------------------------------------------------------------------------------
# Model card
# --------------------------------------------------------------------------------------------------

CARD = """\
---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# demo-llama

A Llama of {millions:.2f} million parameters that was trained for {minutes:.0f} minutes of CPU time,
so that this project can generate text without a download. It continues English text in the manner
of the Python language reference. It is a toy: it knows no facts and follows no instructions. Its chat
template puts the messages one behind the other, so that clients that chat have something to try.

## Data

The text is `pydoc_data.topics` of CPython {python}, the sections of the Python documentation that
`help()` shows. It is copyright the Python Software Foundation and comes under the PSF License
Agreement. The script joins hard-wrapped lines, removes reStructuredText emphasis, footnote marks,
tables and grammar productions, and keeps each longer paragraph once, since many topics repeat
sections of others.

| | topics | characters | tokens |
|---|---:|---:|---:|
| trained on | {train_topics} | {corpus.train_chars} | {train_loss.tokens} |
| held out | {held_out_topics} | {corpus.held_out_chars} | {held_out_loss.tokens} |

Whole topics, chosen at random by the seed, are held out:
{held_out_names}.

SHA-256 of the cleaned text and its split: `{digest}`.

## Architecture

`LlamaForCausalLM`, saved in bfloat16:

| | |
|---|---|
| parameters | {parameters} |
| layers | {config.num_hidden_layers} |
| hidden size, MLP size | {config.hidden_size}, {config.intermediate_size} |
| attention heads | {config.num_attention_heads} of {config.head_dim} dimensions |
| key-value heads | {config.num_key_value_heads} |
| embeddings | tied |
| positions | {config.max_position_embeddings}, rotary |
| vocabulary | {config.vocab_size}, byte-level BPE |
| characters per token | {chars_per_token:.2f} in the training text |
| end of text | `{eos}`, id {eos_id} |

## Training

    {command}

| | |
|---|---|
| seed | {settings.seed} |
| steps | {settings.steps} |
| windows per step, tokens per window | {settings.batch_size}, {settings.context} |
| tokens seen | {curve.tokens_seen} ({epochs:.1f} times the training text) |
| optimizer of the layer matrices | Muon, peak learning rate {settings.muon_rate} |
| weight decay of the layer matrices | {settings.weight_decay} |
| optimizer of the embedding and norms | AdamW, peak learning rate {settings.adam_rate} |
| schedule | linear warm-up, then cosine |
| dropout | {settings.dropout} on the embeddings and on what each layer adds |
| arithmetic | float32, threads: {settings.threads} |
| machine | {machine} |
| time in the training loop | {curve.seconds:.0f} s by the clock |
| CPU time in the training loop | {curve.cpu_seconds:.0f} s |
| Python, PyTorch, Transformers, Tokenizers | {python}, {torch}, {transformers}, {tokenizers} |

With one thread the same command gives the same weights on the same kind of CPU and versions.

## Loss

Measured on the saved weights after reloading them, in float32, every token of each topic predicted
once from at most {settings.context} tokens before it.

| | nats/token | bits/char |
|---|---:|---:|
| trained on | {train_loss.nats_per_token:.3f} | {train_loss.bits_per_char:.3f} |
| held out | {held_out_loss.nats_per_token:.3f} | {held_out_loss.bits_per_char:.3f} |

{loss_note}

## Samples

As printed by the run that made these weights: prompt first, then at most {new_tokens} new tokens.
"Copied" is the longest stretch of the continuation that is, character for character, in the
training text.

{samples}

## Limitations

- Much of what it writes is recited from the Python documentation, and the rest only sounds like
  it: passages run into one another, and statements about Python may be wrong.
- It was trained on windows of {settings.context} tokens. The configuration allows
  {config.max_position_embeddings} positions; beyond {settings.context} it is untrained.
- It knows English prose about Python and short Python examples, and nothing else.

## Licence

The weights, like the script, are under the MIT License. Passages that the model recites word for
word from the Python documentation stay under the licence of that documentation, named above.
"""


@dataclass(frozen=True)
class Report:
    """All that the model card says about one run."""

    settings: Settings
    corpus: Corpus
    config: LlamaConfig
    parameters: int
    curve: Curve
    train_loss: Loss  # of the saved weights
    held_out_loss: Loss  # of the saved weights
    samples: tuple[Sample, ...]


def machine() -> str:
    """Kind of processor, as the operating system names it."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf8"), re.MULTILINE)
        name = found.group(1).strip() if found else name
    return f"{name or 'unknown processor'} ({platform.machine()}), no GPU"


def format_sample(sample: Sample) -> str:
    """A sample as it stands in the card and on the terminal."""
    return f"{sample.how} (copied: {sample.copied_chars} characters)\n\n```text\n{sample.text}\n```"


def loss_note(report: Report) -> str:
    """Say how much of the training loss is memorising."""
    settings, curve = report.settings, report.curve
    note = (
        "The distance between the two rows is mostly memorising. The held-out loss was lowest, at "
        f"{curve.best_held_out.nats_per_token:.3f} nats/token, after {curve.best_step} of "
        f"{settings.steps} steps (measured every {settings.log_every} steps). "
    )
    if curve.best_step < settings.steps:
        note += (
            "Training went on because what a demo prints reads better when the model knows its "
            "source well. "
        )
    note += f"A uniform guess would cost {math.log(settings.vocab_size):.3f} nats/token."
    return textwrap.fill(note, 99)


def write_card(report: Report) -> str:
    """Fill the model card from what this run measured."""
    settings, corpus, curve = report.settings, report.corpus, report.curve
    return CARD.format(
        settings=settings,
        corpus=corpus,
        config=report.config,
        curve=curve,
        loss_note=loss_note(report),
        train_loss=report.train_loss,
        held_out_loss=report.held_out_loss,
        parameters=report.parameters,
        millions=report.parameters / 1e6,
        minutes=curve.cpu_seconds / 60,
        epochs=curve.tokens_seen / report.train_loss.tokens,
        chars_per_token=corpus.train_chars / report.train_loss.tokens,
        train_topics=len(corpus.train),
        held_out_topics=len(corpus.held_out),
        held_out_names=textwrap.fill(", ".join(sorted(d.name for d in corpus.held_out)), 99),
        digest=corpus.digest(),
        command=shlex.join(["python", "examples/train_demo_model.py", *sys.argv[1:]]),
        machine=machine(),
        python=platform.python_version(),
        torch=torch.__version__,
        transformers=transformers.__version__,
        tokenizers=tokenizers.__version__,
        eos=EOS_TOKEN,
        eos_id=EOS_ID,
        new_tokens=NEW_TOKENS,
        samples="\n\n".join(format_sample(sample) for sample in report.samples),
    )


# --------------------------------------------------------------------------------------------------
# Command
# --------------------------------------------------------------------------------------------------


def parse_args(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; the defaults are those of the model in the repository."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("models/demo-llama"), help="directory to write")
    add("--steps", type=int, default=1800, help="optimizer steps")
    add("--seed", type=int, default=0, help="of the split, the weights, the batches, the samples")
    add("--threads", type=int, default=1, help="CPU threads")
    add("--batch-size", type=int, default=4, help="windows per step")
    add("--context", type=int, default=512, help="tokens per window")
    add("--vocab-size", type=int, default=2048, help="entries of the tokenizer")
    add("--hidden-size", type=int, default=192, help="a multiple of 64")
    add("--layers", type=int, default=4, help="transformer layers")
    add("--muon-rate", type=float, default=0.02, help="peak learning rate of layer matrices")
    add("--adam-rate", type=float, default=0.003, help="peak learning rate of the other parameters")
    add("--weight-decay", type=float, default=0.1, help="of layer matrices")
    add("--dropout", type=float, default=0.15, help="share of features zeroed while training")
    add("--held-out", type=float, default=0.08, help="most of the characters to hold out, as share")
    add("--log-every", type=int, default=100, help="steps between two measurements")
    values = parser.parse_args(arguments)
    if values.hidden_size % 64:
        parser.error("--hidden-size must be a multiple of 64")
    if not 0 < values.context <= MAX_POSITIONS:
        parser.error(f"--context must be between 1 and {MAX_POSITIONS}")
    if min(values.steps, values.threads, values.batch_size, values.layers, values.log_every) < 1:
        parser.error("--steps, --threads, --batch-size, --layers and --log-every must be positive")
    return Settings(**vars(values))


def prepare(settings: Settings) -> Corpus:
    """Clean and split the text, and print what came out."""
    corpus = split_corpus(clean_documents(pydoc_topics.topics), settings.held_out, settings.seed)
    if not corpus.held_out:
        raise SystemExit("no topic fits into the share that --held-out allows")
    print(f"train:    {len(corpus.train)} topics, {corpus.train_chars} characters")
    print(f"held out: {len(corpus.held_out)} topics, {corpus.held_out_chars} characters")
    print(f"corpus SHA-256: {corpus.digest()}", flush=True)
    return corpus


def examine(settings: Settings, corpus: Corpus, parameters: int, curve: Curve) -> Report:
    """Reload what was saved, measure it and draw samples from it."""
    out = settings.out
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    model = LlamaForCausalLM.from_pretrained(out, local_files_only=True, dtype=torch.float32)
    return Report(
        settings=settings,
        corpus=corpus,
        config=model.config,
        parameters=parameters,
        curve=curve,
        train_loss=measure(model, tokenizer, corpus.train, settings.context),
        held_out_loss=measure(model, tokenizer, corpus.held_out, settings.context),
        samples=tuple(draw_samples(out, corpus, settings.seed)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, save, reload, measure, and write the model card; 1 if the directory is too large."""
    settings = parse_args(arguments)
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(settings.seed)
    corpus = prepare(settings)
    tokenizer = train_tokenizer([document.text for document in corpus.train], settings.vocab_size)
    model = build_model(settings)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"parameters: {parameters}", flush=True)
    curve = train(model, tokenizer, corpus, settings)
    save(model, tokenizer, settings.out)
    report = examine(settings, corpus, parameters, curve)
    card = write_card(report)
    (settings.out / "README.md").write_text(card, encoding="utf-8")
    print(f"saved weights on the training topics: {report.train_loss}")
    print(f"saved weights on the held-out topics: {report.held_out_loss}")
    print(f"model card:\n\n{card}")
    sizes = {path.name: path.stat().st_size for path in sorted(settings.out.iterdir())}
    for name, size in sizes.items():
        print(f"{size:9d} bytes  {name}")
    total = sum(sizes.values())
    print(f"{total:9d} bytes  in all; at most {SIZE_LIMIT_BYTES} are meant for the repository")
    return int(total > SIZE_LIMIT_BYTES)


if __name__ == "__main__":
    raise SystemExit(main())
