from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModel
from transformers.modeling_outputs import BaseModelOutput

from tests.sentence_layouts import SIZES
from workers.engines.encoding.encoder import Model, choose_encoder
from workers.engines.encoding.tokenized_text import TokenizedText
from workers.engines.packed_weights import Product
from workers.engines.row_blocks import fixed_rows

LENGTHS = (3, 3, 4, 17, 18, 19, 40)


def ready(model: Any, **known: Any) -> Model:
    fields = {"vocabulary": 40, "longest": 64, "pad": 0, "first": 0, "dtype": torch.float32}
    return Model(model, device=torch.device("cpu"), **(fields | known))


@pytest.mark.parametrize(
    ("config", "options", "way"),
    [
        ("BertConfig", {}, "packed"),
        ("DebertaConfig", {}, "padded"),
        # A convolution reaches into the padding, a Fourier transform mixes all of it in.
        ("ConvBertConfig", {"embedding_size": 32}, "equal lengths"),
        ("FNetConfig", {}, "equal lengths"),
        (
            "Phi3Config",
            {
                "original_max_position_embeddings": 16,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 10000.0,
                    "short_factor": [1.0] * 8,
                    "long_factor": [4.0, 8.0] * 4,
                },
            },
            "packed",
        ),
    ],
)
@torch.inference_mode()
def test_a_text_has_the_vectors_that_it_has_alone(
    config: str, options: dict[str, Any], way: str
) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(getattr(transformers, config)(**(SIZES | options))).eval()
    texts = [TokenizedText(torch.randint(5, 40, (n,)).tolist()) for n in LENGTHS]
    alone = [model(input_ids=torch.tensor([text.ids])).last_hidden_state[0] for text in texts]

    encoder, found, _ = choose_encoder(ready(model))

    assert found == way
    for got, right in zip(encoder.encode(texts), alone, strict=True):
        assert torch.allclose(got, right, atol=1e-4)


class Drifting(nn.Module):
    """Each call moves all vectors by `drift`."""

    def __init__(self, drift: float) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 8)
        self.moved, self._drift = 0.0, drift

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        self.moved += self._drift
        return BaseModelOutput(last_hidden_state=self.table(input_ids) + self.moved)


@pytest.mark.parametrize(
    ("drift", "complaint"),
    [(0.5, "what it ran before, or on chance"), (float("nan"), "not numbers")],
)
@torch.inference_mode()
def test_a_model_whose_vectors_change_is_refused(drift: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        choose_encoder(ready(Drifting(drift)))


HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@torch.inference_mode()
def test_in_half_precision_a_vector_has_the_same_bits_in_any_company(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(**(SIZES | {"hidden_size": 512, "intermediate_size": 1408}))
    model = AutoModel.from_config(config, dtype=dtype).eval()
    texts = [TokenizedText(torch.randint(5, 40, (n,)).tolist()) for n in (*LENGTHS, 33, 50, 64)]

    encoder, way, _ = choose_encoder(ready(model, dtype=dtype))
    with fixed_rows(torch.device("cpu"), dtype):
        together = encoder.encode(texts)
        alone = [encoder.encode([text])[0] for text in texts]

    assert way == "packed"
    assert all(map(torch.equal, together, alone))


class Reading(nn.Module):
    """A model that multiplies by a layer's weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 8, dtype=torch.bfloat16)
        self.layer = nn.Linear(8, 8, dtype=torch.bfloat16)

    def forward(self, input_ids: torch.Tensor) -> BaseModelOutput:
        vectors = nn.functional.linear(self.table(input_ids), self.layer.weight)
        return BaseModelOutput(last_hidden_state=vectors)


@torch.inference_mode()
def test_a_model_that_reads_its_weights_itself_keeps_them() -> None:
    model = Reading()
    before = model.layer.weight.clone()

    choose_encoder(ready(model, dtype=torch.bfloat16))

    assert torch.equal(model.layer.weight, before)
    assert not isinstance(vars(model.layer).get("forward"), Product)
