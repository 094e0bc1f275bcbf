from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel

from tests.sentence_layouts import SIZES
from workers.engines.loading.text_lengths import (
    PositionTable,
    position_table,
    rotary_room,
    scaled_rotaries,
)


def model(config: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(getattr(transformers, config)(**(SIZES | options))).eval()


@pytest.mark.parametrize(
    ("config", "options", "table"),
    [
        ("BertConfig", {}, PositionTable(0, 64)),
        ("RobertaConfig", {"pad_token_id": 1}, PositionTable(2, 62)),
        ("XLMRobertaConfig", {"pad_token_id": 1}, PositionTable(2, 62)),
        ("CamembertConfig", {"pad_token_id": 1}, PositionTable(2, 62)),
        ("MPNetConfig", {"pad_token_id": 1}, PositionTable(2, 62)),
        ("MPNetConfig", {"pad_token_id": 0}, PositionTable(2, 62)),  # it pads with 1 all the same
        ("LongformerConfig", {"pad_token_id": 1, "attention_window": [4, 4]}, PositionTable(2, 62)),
        ("OPTConfig", {"ffn_dim": 64, "word_embed_proj_dim": 32}, PositionTable(2, 64)),
        ("GPT2Config", {}, PositionTable(0, 64)),
        ("LlamaConfig", {}, None),
        ("DebertaV2Config", {"position_biased_input": False, "relative_attention": True}, None),
    ],
)
@torch.inference_mode()
def test_the_room_for_positions_is_found_and_is_all_there_is(
    config: str, options: dict[str, Any], table: PositionTable | None
) -> None:
    made = model(config, **options)

    assert position_table(made, 40, torch.device("cpu")) == table

    if table is not None:
        made(input_ids=torch.full((1, table.room), 7))
        with pytest.raises((IndexError, RuntimeError)):
            made(input_ids=torch.full((1, table.room + 1), 7))


@pytest.mark.parametrize(
    ("rope", "room"),
    [
        (None, 64),
        ({"rope_type": "default", "rope_theta": 1.0}, 64),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, 256),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}, 64),
        ({"rope_type": "dynamic", "factor": 2.0}, 128),
        ({"full_attention": {"rope_type": "yarn", "factor": 2.0}, "sliding_attention": {}}, 128),
    ],
)
def test_a_stretched_context_is_longer_than_the_trained_one(rope: Any, room: int) -> None:
    assert rotary_room(SimpleNamespace(max_position_embeddings=64, rope_parameters=rope)) == room


def test_a_model_without_a_bound_has_none() -> None:
    assert rotary_room(SimpleNamespace(max_position_embeddings=-1)) is None
    assert rotary_room(SimpleNamespace()) is None


@torch.inference_mode()
def test_dynamic_ntk_forgets_the_longest_text() -> None:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    made = model("LlamaConfig", max_position_embeddings=16, rope_parameters=rope)
    [rotary] = scaled_rotaries(made)
    middle = torch.arange(5, 25)[None]
    fresh = made(input_ids=middle).last_hidden_state
    made(input_ids=torch.full((1, 60), 7))  # grows

    remembered = made(input_ids=middle).last_hidden_state
    rotary.forget()
    forgotten = made(input_ids=middle).last_hidden_state

    assert not torch.allclose(fresh, remembered, atol=1e-3)
    assert torch.equal(fresh, forgotten)
    assert [rotary.kind(length) for length in (1, 16, 17, 40)] == [0, 0, 17, 40]
