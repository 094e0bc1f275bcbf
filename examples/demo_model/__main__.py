"""Train a very small Llama on the Python language reference and save it for the demos.

The text is ``pydoc_data.topics``, the part of the Python documentation that every CPython
installation carries for ``help()``, so nothing is downloaded.  The script cleans that text, trains
a byte-level BPE tokenizer on it, trains a Llama of a few million parameters on one CPU core, and
writes a directory that ``AutoTokenizer`` and ``AutoModelForCausalLM`` open, with a model card in
which every figure was measured by the same run.

Run it from the repository root::

    python -m examples.demo_model --out models/demo-llama

The same seed, settings, Python, library versions and kind of CPU give the same weights when one
thread is used.
"""

import os
from collections.abc import Sequence
from pydoc_data import topics as pydoc_topics

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from examples.demo_model.card import Report, write_card
from examples.demo_model.corpus import Corpus, clean_documents, split_corpus
from examples.demo_model.model import build_model, measure, train_tokenizer
from examples.demo_model.samples import draw_samples, save
from examples.demo_model.settings import Settings, parse_args
from examples.demo_model.training import Curve, train

SIZE_LIMIT_BYTES = 8_000_000


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
