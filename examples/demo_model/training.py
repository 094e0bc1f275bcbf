"""The training loop: optimizers, learning rates, batches, and what was measured on the way."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from examples.demo_model.corpus import Corpus
from examples.demo_model.model import Loss, measure, next_token_loss, token_stream
from examples.demo_model.muon import Muon
from examples.demo_model.settings import Settings


@dataclass(frozen=True)
class Curve:
    """What the training loop measured."""

    tokens_seen: int
    seconds: float  # by the clock
    cpu_seconds: float  # of this process; less than `seconds` where the machine is shared
    best_step: int  # where the held-out loss was lowest among the steps that were measured
    best_held_out: Loss


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
