"""The tokenizer and the model before training, and the loss of the model on some documents."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from examples.demo_model.corpus import Document
from examples.demo_model.settings import MAX_POSITIONS, Settings

EOS_TOKEN = "<|endoftext|>"
EOS_ID = 0


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
