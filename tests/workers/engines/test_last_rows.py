"""Where one token of each text is wanted, a model's last layer runs for that one, with the same vectors."""

from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModel

from tests.sentence_layouts import SIZES
from workers.engines.encoding.encoder import Model, choose_encoder
from workers.engines.encoding.packed_encoder import PackedEncoder
from workers.engines.encoding.segment_attention import Look
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.last_rows import LastRows
from workers.engines.row_blocks import fixed_rows

LENGTHS = (1, 2, 2, 3, 17, 18, 18, 40, 130)
"""With those of 2 tokens and two heads, a row of heads looks like one of tokens."""
CONFIGS = {
    "BertConfig": {},
    "ModernBertConfig": {"local_attention": 8, "global_attn_every_n_layers": 2},
    "Qwen3Config": {},
    "Qwen3MoeConfig": {"num_experts": 4, "num_experts_per_tok": 2},
    "Gemma3TextConfig": {"sliding_window": 8, "use_bidirectional_attention": True},
    "GPTNeoXConfig": {},
    "Lfm2Config": {},
}


def made(name: str) -> Any:
    torch.manual_seed(0)
    sizes = SIZES | {"max_position_embeddings": 160} | CONFIGS[name]
    return AutoModel.from_config(getattr(transformers, name)(**sizes)).eval()


def chosen(model: Any, look: Look, dtype: torch.dtype = torch.float32) -> PackedEncoder:
    asked = Model(model, 40, 160, 0, torch.device("cpu"), dtype, look=look)
    encoder, way, reason = choose_encoder(asked)
    assert way == "packed", reason
    assert isinstance(encoder, PackedEncoder)
    return encoder


def random_texts() -> list[TokenizedText]:
    generator = torch.Generator().manual_seed(1)
    return [
        TokenizedText(torch.randint(5, 40, (length,), generator=generator).tolist())
        for length in LENGTHS
    ]


@pytest.mark.parametrize("look", ["first", "last"])
@pytest.mark.parametrize("name", CONFIGS)
@torch.inference_mode()
def test_the_wanted_token_has_the_vector_that_it_has_alone(name: str, look: Look) -> None:
    model, texts = made(name), random_texts()
    place = 0 if look == "first" else -1
    right = [
        model(input_ids=torch.tensor([text.ids])).last_hidden_state[0, place] for text in texts
    ]

    encoder = chosen(model, look)
    found = encoder.encode(texts)
    lone = [encoder.encode([text])[0] for text in texts]

    assert encoder.look == look
    assert all(vectors.shape == (1, SIZES["hidden_size"]) for vectors in (*found, *lone))
    for got, alone, wanted in zip(found, lone, right, strict=True):
        assert torch.allclose(got[0], wanted, atol=1e-4)
        assert torch.allclose(alone[0], wanted, atol=1e-4)


@torch.inference_mode()
def test_the_last_layer_runs_for_the_wanted_tokens_alone() -> None:
    model = made("BertConfig")
    encoder = chosen(model, "first")
    rows: list[int] = []
    model.encoder.layer[-1].output.dense.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )

    encoder.encode(random_texts())

    assert rows == [len(LENGTHS)]


class Mixing(nn.Module):
    """Adds to each token its neighbour behind it: what follows the last attention looks at other rows."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + hidden.roll(1, dims=1)


@torch.inference_mode()
def test_a_model_that_mixes_tokens_behind_its_last_attention_runs_all_of_them() -> None:
    model = made("Qwen3Config")
    model.norm = Mixing()

    with pytest.raises(AssertionError, match="company"):  # not even packed: it mixes texts, too
        chosen(model, "last")


class AllRows(nn.Module):
    """Counts on as many rows as there are tokens."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.tokens = inner, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[1] != self.tokens:
            raise ValueError("rows are missing")
        found: torch.Tensor = self.inner(hidden)
        return found


@torch.inference_mode()
def test_a_model_that_wants_all_its_rows_keeps_them() -> None:
    model = made("Qwen3Config")
    model.norm = counting = AllRows(model.norm)
    model.embed_tokens.register_forward_hook(
        lambda _, __, found: setattr(counting, "tokens", found.shape[1])
    )

    encoder = chosen(model, "last")

    assert encoder.look == "all"
    assert [len(found) for found in encoder.encode(random_texts())] == list(LENGTHS)


@torch.inference_mode()
def test_a_vector_in_halves_is_the_same_to_the_last_bit_in_any_company() -> None:
    model, texts = made("BertConfig").to(torch.bfloat16), random_texts()
    with fixed_rows(torch.device("cpu"), torch.bfloat16):
        encoder = chosen(model, "first", torch.bfloat16)
        together = encoder.encode(texts)
        alone = [encoder.encode([text])[0] for text in texts]

    assert encoder.look == "first"
    assert all(torch.equal(one, other) for one, other in zip(together, alone, strict=True))


def test_what_was_made_since_is_left_as_it_is() -> None:
    before, rows = torch.arange(6.0).reshape(1, 3, 2), torch.tensor([2])

    with LastRows(rows, 3):
        taken = before * 1
        made_since = taken.reshape(1, 1, 2).expand(1, 3, 2)
        kept = made_since * 1

    assert taken.tolist() == [[[4.0, 5.0]]]
    assert kept.shape == (1, 3, 2)
