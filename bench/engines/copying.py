"""A Llama that copies: its weights are set so that it says what followed its last token the last time.

Two attention heads do it, as trained models have them (https://arxiv.org/abs/2209.11895). In the first layer
a head looks at the token before; in the second one a head looks at the tokens that came after the last
one's equals, and says those. All other weights are random or nought, and cost what they cost in any model.
"""

from math import sqrt
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CODE = 32
"""Numbers that stand for a token in each of three places: the token, the one before, the one to be said."""
HEAD = 64
ROPE_THETA = 1e8
"""So large that the later half of a head's dimensions hardly turn over a text."""
ONE = 4.0
"""What stands in the dimension that is the same for all tokens."""
LOOKS_BACK = 12.0
MATCHES = 14.0
"""Sharpness of the heads: by how much the score of what is looked for exceeds all others, about."""


def save_copier(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    *,
    vocabulary: int,
    hidden: int = 128,
    intermediate: int = 128,
    layers: int = 2,
    kv_heads: int = 1,
    sure: float = 9.0,
    positions: int = 2048,
) -> Path:
    """Write a model directory. `sure`: by how much the copied token's logit exceeds most others'."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=hidden // HEAD,
        num_key_value_heads=kv_heads,
        max_position_embeddings=positions,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        _set(model, vocabulary, hidden, sure)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _set(model: LlamaForCausalLM, vocabulary: int, hidden: int, sure: float) -> None:
    codes = torch.randint(2, (vocabulary, CODE)) * 2.0 - 1.0
    token, before, said = (slice(n * CODE, (n + 1) * CODE) for n in range(3))
    one = 3 * CODE
    # What a layer's norm divides by, once each place is filled.
    scales = [sqrt((n * CODE + ONE**2) / hidden) for n in (1, 2, 3)]
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding = model.model.embed_tokens.weight
    embedding.zero_()
    embedding[:, token] = codes
    embedding[:, one] = ONE
    fast, slow = _dimensions()
    eye = torch.eye(CODE)

    attention = model.model.layers[0].self_attn
    _clear(attention)
    angles = ROPE_THETA ** (-torch.arange(HEAD // 4) / (HEAD // 2))
    gain = sqrt(LOOKS_BACK * sqrt(HEAD) / float((1 - angles.cos()).sum())) * scales[0] / ONE
    attention.q_proj.weight[fast[: HEAD // 4], one] = gain
    attention.k_proj.weight[fast[: HEAD // 4], one] = gain * angles.cos()
    attention.k_proj.weight[fast[HEAD // 4 :], one] = gain * angles.sin()
    attention.v_proj.weight[:CODE, token] = eye * scales[0]
    attention.o_proj.weight[before, :CODE] = eye

    attention = model.model.layers[1].self_attn
    _clear(attention)
    gain = sqrt(MATCHES * sqrt(HEAD) / CODE * 2) * scales[1]
    attention.q_proj.weight[slow, token] = eye * gain
    attention.k_proj.weight[slow, before] = eye * gain
    attention.v_proj.weight[:CODE, token] = eye * scales[1]
    attention.o_proj.weight[said, :CODE] = eye

    head = model.lm_head.weight
    head.zero_()
    head[:, said] = codes * scales[2] * sure / CODE
    # Where nothing is to be copied the last token alone decides.
    head[:, token] = torch.randn(vocabulary, CODE) * scales[2] / sqrt(CODE)


def _dimensions() -> tuple[list[int], list[int]]:
    """Of a head those that turn fast and those that turn slowly; rotary pairs are half a head apart."""
    quarter = HEAD // 4
    return (
        [*range(quarter), *range(2 * quarter, 3 * quarter)],
        [*range(quarter, 2 * quarter), *range(3 * quarter, HEAD)],
    )


def _clear(attention: torch.nn.Module) -> None:
    for name in ("q_proj", "k_proj", "v_proj"):
        getattr(attention, name).weight.zero_()
