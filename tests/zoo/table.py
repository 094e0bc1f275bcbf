"""The zoo's inmates: each architecture, and how it is expected to run.

`packed`, `stacked` and `static` as `GET /v1/models` says it; `refused` with a part of the sentence.
"""

from typing import Any

from tests.zoo.models import MLA, Model

WINDOW = 24
ROPE = {"rope_theta": 10000.0}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [8.0, 4.0, 2.0, 1.5],
    "original_max_position_embeddings": WINDOW,
    **ROPE,
}
MAMBA: dict[str, Any] = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_chunk_size": 8,
}
DELTA: dict[str, Any] = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
INDEXED: dict[str, Any] = MLA | {
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 8,
    "mlp_layer_types": ["dense", "sparse"],
    "n_group": 1,
    "topk_group": 1,
}
"""Layers that look back on the eight tokens that their indexers choose."""
SHORT = {"sliding_window": 16}
SOME = SHORT | {"use_sliding_window": True, "max_window_layers": 1}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
PER_LAYER = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 96}
HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
DECODER = {"is_decoder": True}
ROBERTA = {"is_decoder": True, "pad_token_id": 1}


def _names(names: str) -> list[str]:
    return names.split()


def _plain(names: str) -> dict[str, Model]:
    """Models that need nothing but the common sizes."""
    return {name: Model(name) for name in _names(names)}


PACKED: dict[str, Model] = {
    **_plain(
        "afmoe apertus arcee aria_text bitnet cohere cohere2 cohere2_moe ctrl ernie4_5"
        " ernie4_5_moe exaone4 flex_olmo gemma gemma3_text glm glm4 glm4_moe gpt2 gpt_bigcode"
        " gpt_neox granite granitemoe granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe"
        " hyperclovax internlm3 jais2 jetmoe lfm2 llama llama4_text minimax_m2 ministral"
        " ministral3 mistral mixtral nanochat nemotron olmo olmo2 olmo3 olmoe opt persimmon phi"
        " phi3 phimoe qwen2 qwen3 qwen3_moe seed_oss smollm3 solar_open starcoder2"
    ),
    **_plain("bloom gpt_neox_japanese mpt openai-gpt xglm"),
    "bert, decoder": Model("bert", DECODER),
    "codegen": Model("codegen", {"rotary_dim": 4}),
    "falcon": Model("falcon", {}, ("head_dim",)),
    "gpt_neo": Model(
        "gpt_neo",
        {
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 16,
        },
        ("num_hidden_layers", "num_attention_heads"),
    ),
    "gptj": Model("gptj", {"rotary_dim": 4}),
    "falcon, alibi": Model("falcon", {"alibi": True}, ("head_dim",)),
    "falcon, alibi and all heads": Model(
        "falcon", {"alibi": True, "multi_query": False}, ("head_dim",)
    ),
    "falcon, new architecture": Model(
        "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, ("head_dim",)
    ),
    "deepseek_v2": Model("deepseek_v2", MLA | {"first_k_dense_replace": 1}),
    "deepseek_v3": Model(
        "deepseek_v3", MLA | {"first_k_dense_replace": 1, "n_group": 2, "topk_group": 1}
    ),
    "dots1": Model("dots1", {"first_k_dense_replace": 1, "n_shared_experts": 1}),
    "glm4_moe_lite": Model("glm4_moe_lite", MLA),
    "minicpm3": Model("minicpm3", MLA),
    "qwen2_moe": Model("qwen2_moe", {"shared_expert_intermediate_size": 24}),
    "youtu": Model("youtu", MLA),
    "llama, longrope": Model("llama", {"rope_parameters": LONGROPE}),
    "phi3, longrope": Model(
        "phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": WINDOW}
    ),
    # Layers that do not see all of a text, and rings that texts go around.
    "cwm": Model("cwm", {"bos_token_id": 0, "sliding_window": 16}),
    "gemma2": Model("gemma2", SHORT),
    "gemma3n_text": Model(
        "gemma3n_text",
        SHORT
        | PER_LAYER
        | {
            "num_hidden_layers": 4,
            "layer_types": MIXED["layer_types"] * 2,
            "num_kv_shared_layers": 2,
            "laurel_rank": 8,
            "activation_sparsity_pattern": [0.0] * 4,
            "intermediate_size": 48,
        },
    ),
    "gemma4_text": Model(
        "gemma4_text",
        SHORT | PER_LAYER | MIXED | {"head_dim": 8, "global_head_dim": 16},
        ("num_experts", "num_experts_per_tok", "head_dim", "num_key_value_heads"),
    ),
    "gpt_oss": Model("gpt_oss", SHORT),
    "mimo_v2_flash": Model("mimo_v2_flash", SHORT),
    **{
        f"{name}, window of 16": Model(name, SHORT)
        for name in _names("cohere2 exaone4 gemma3_text mistral olmo3 phi3")
    },
    "llama4_text, chunks of 16": Model(
        "llama4_text", {"attention_chunk_size": 16, "no_rope_layers": [1, 0]}
    ),
    "qwen2, window of 16 in a layer": Model("qwen2", SOME),
    "smollm3, window of 16 in a layer": Model(
        "smollm3", SOME | MIXED | {"no_rope_layer_interval": 2}
    ),
    "llama, yarn": Model(
        "llama",
        {
            "max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 64,
                **ROPE,
            },
        },
    ),
}
ALIKE = frozenset(
    _names(
        "apertus arcee aria_text cohere2 cohere2_moe dots1 ernie4_5 ernie4_5_moe exaone4 flex_olmo"
        " gemma glm glm4 glm4_moe glm4_moe_lite gpt_neox_japanese granite granitemoe"
        " granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hyperclovax internlm3 jais2"
        " llama4_text minimax_m2 ministral ministral3 mistral nanochat olmo olmo3 olmoe phi phimoe"
        " qwen2 qwen2_moe qwen3 seed_oss solar_open starcoder2 youtu"
    )
)
"""Those of `PACKED` whose attention is like that of another one there: for `make explore` and `make zoo`."""
STACKED: dict[str, Model] = {
    **_plain("biogpt diffllama falcon_mamba hrm_text mamba minimax olmo_hybrid rwkv stablelm"),
    "bailing_hybrid": Model("bailing_hybrid", MLA | HYBRID | {"n_group": 1, "topk_group": 1}),
    "bamba": Model("bamba", MAMBA | {"attn_layer_indices": [1]}),
    "deepseek_v32": Model("deepseek_v32", INDEXED),
    "falcon_h1": Model("falcon_h1", MAMBA | {"mamba_d_ssm": 64}),
    "glm_moe_dsa": Model("glm_moe_dsa", INDEXED | {"indexer_types": ["full", "shared"]}),
    "granitemoehybrid": Model(
        "granitemoehybrid",
        MAMBA | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 24},
    ),
    "jamba": Model("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8}),
    "kimi_linear": Model(
        "kimi_linear",
        MLA | HYBRID | {"linear_head_dim": 8, "linear_num_heads": 4, "n_group": 1},
    ),
    "lfm3": Model("lfm3", {"layer_types": ["conv", "full_attention"]}),
    "lfm2, convolutions": Model("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "lfm2, convolutions and longrope": Model(
        "lfm2", {"layer_types": ["conv", "full_attention"], "rope_parameters": LONGROPE}
    ),
    "llama, dynamic NTK": Model(
        "llama",
        {
            "max_position_embeddings": WINDOW,
            "rope_parameters": {"rope_type": "dynamic", "factor": 8.0, **ROPE},
        },
    ),
    "mamba2": Model(
        "mamba2",
        {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 2, "chunk_size": 8},
    ),
    "nemotron_h": Model(
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "attention", "moe"],
            "mamba_num_heads": 8,
            "mamba_head_dim": 8,
            "ssm_state_size": 8,
            "n_groups": 2,
            "chunk_size": 8,
            "moe_shared_expert_intermediate_size": 24,
        },
        ("num_hidden_layers",),
    ),
    "qwen3_5_text": Model("qwen3_5_text", DELTA | HYBRID),
    "qwen3_next": Model("qwen3_next", DELTA | HYBRID | {"shared_expert_intermediate_size": 24}),
    "recurrent_gemma": Model(
        "recurrent_gemma",
        {"block_types": ["recurrent", "attention"], "lru_width": 32, "attention_window_size": 16},
    ),
    "xlstm": Model("xlstm", {"hidden_size": 128, "num_heads": 4, "num_blocks": 2}, ("head_dim",)),
    "zamba": Model(
        "zamba",
        {
            "num_hidden_layers": 4,
            "layers_block_type": ["mamba", "hybrid"] * 2,
            "attention_head_dim": 16,
            "mamba_d_state": 8,
        },
        ("head_dim",),
    ),
    "zaya": Model("zaya", {"num_experts_per_tok": 1}),
    "zamba2": Model(
        "zamba2",
        {
            "layers_block_type": ["mamba", "hybrid"],
            "n_mamba_heads": 8,
            "mamba_headdim": 8,
            "mamba_d_state": 8,
            "chunk_size": 8,
            "adapter_rank": 4,
            "num_key_value_heads": 4,
        },
        ("head_dim",),
    ),
}
BLOCKS: dict[str, Any] = DELTA | {
    "layer_types": ["linear_attention", "indexed_attention"],
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 64,
    "indexer_compress_ratio": 2,
    "shared_expert_intermediate_size": 24,
}
"""Layers whose indexers choose blocks of tokens, all of them in texts as short as a trial's."""
STATIC: dict[str, Model] = _plain("doge")
REFUSED: dict[str, tuple[Model, str]] = {
    "bert": (Model("bert"), "looks at the tokens that follow"),
    "electra": (Model("electra"), "looks at the tokens that follow"),
    "roberta, decoder": (Model("roberta", ROBERTA), "counts positions from another number"),
    "xlm-roberta, decoder": (Model("xlm-roberta", ROBERTA), "counts positions from another number"),
}
LONG: dict[str, Model] = {
    **_plain(
        "beam exaone_moe flint hy_v3 inkling_text iquestcoder kolibri1 laguna mellum"
        " minimax_m3_vl_text moshi trocr deepseek_v4"
    ),
    **{
        f"{name}, window of 16": Model(name, SHORT)
        for name in _names(
            "afmoe granite_swa granitemoe_swa ministral mixtral starcoder2 vaultgemma"
        )
    },
    "qwen3, window of 16 in a layer": Model("qwen3", SOME),
    **{
        f"{name}, decoder": Model(name, DECODER)
        for name in _names("bert-generation ernie megatron-bert rembert roformer electra")
    },
    "axk2": Model("axk2", INDEXED | {"first_k_dense_replace": 1}, ("mlp_layer_types",)),
    "hy_v4": Model("hy_v4", INDEXED | {"indexer_types": ["full", "shared"]}),
    "axk1": Model("axk1", MLA | {"n_group": 1, "topk_group": 1}),
    "longcat_flash": Model("longcat_flash", MLA),
    "lfm2_moe": Model("lfm2_moe", {"layer_types": ["conv", "full_attention"]}),
    "phimoe, longrope": Model(
        "phimoe", {"rope_parameters": LONGROPE | {"short_mscale": 1.1, "long_mscale": 1.4}}
    ),
    "qwen4_exp_text": Model("qwen4_exp_text", BLOCKS),
    "qwen3_5_moe_text": Model(
        "qwen3_5_moe_text", DELTA | HYBRID | {"shared_expert_intermediate_size": 24}
    ),
}
"""Besides the others, for the long form: rarer ones."""

MODELS: dict[str, Model] = {
    **PACKED,
    **STACKED,
    **STATIC,
    **{name: model for name, (model, _) in REFUSED.items()},
    **LONG,
}
