"""Saved sentence-transformers layouts with more than a transformer and pooling, by name.

`TASKED` are those whose vectors depend on the task: query, document, or none.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Router
from sentence_transformers.multi_vector_encoder import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from sentence_transformers.sentence_transformer.modules import (
    CNN,
    LSTM,
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from tests.refused_layouts import refused
from tests.sentence_layouts import (
    LAYOUTS,
    Make,
    change,
    layout,
    old_layout,
    save_library,
    save_transformer,
    words,
    write,
)

TASKED: dict[str, Make] = {}
T5: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}


def tasked(make: Make) -> Make:
    """Served as the library computes it, for each task."""
    TASKED[make.__name__] = make
    return make


def save(folder: Path, model: Any) -> None:
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(folder / "source", ignore_errors=True)


def source(folder: Path, config: str = "BertConfig", **options: Any) -> Path:
    """A random transformer beside the layout; removed once the layout is saved."""
    return save_transformer(folder / "source", config, **options)


def bare() -> Any:
    return words(typed=False)


@layout
def dense_as_sentence_t5(folder: Path) -> None:
    save_library(folder, Dense(32, 16, bias=False, activation_function=nn.Identity()), Normalize())


@layout
def dense_with_its_default_activation(folder: Path) -> None:
    save_library(folder, Dense(32, 48))


@layout
def dense_with_gelu_and_layer_norm(folder: Path) -> None:
    save_library(folder, Dense(32, 24, activation_function=nn.GELU()), LayerNorm(24), Normalize())


@layout
def dense_with_softmax(folder: Path) -> None:
    save_library(folder, Dense(32, 8, activation_function=nn.Softmax(dim=1)))
    change(folder / "2_Dense" / "config.json", activation_function="torch.nn.Softmax")


@layout
def dense_with_a_residual(folder: Path) -> None:
    save_library(folder, Dense(32, 32, use_residual=True), Dense(32, 16, use_residual=True))


@layout
def dense_that_names_no_activation(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    config = folder / "2_Dense" / "config.json"
    write(config, {"in_features": 32, "out_features": 16, "bias": True})


@layout
def dense_of_tokens_before_pooling(folder: Path) -> None:
    tokens = Dense(32, 16, module_input_name="token_embeddings")
    model = SentenceTransformer(
        modules=[Transformer(str(source(folder))), tokens, Pooling(16)], device="cpu"
    )
    save(folder, model)


@layout
def normalize_in_the_middle(folder: Path) -> None:
    save_library(folder, Normalize(), Dropout(0.1), Dense(32, 16), truncate_dim=10)


@layout
def three_poolings_before_dense(folder: Path) -> None:
    save_library(folder, Pooling(32, ("cls", "mean", "lasttoken")), Dense(96, 32), Normalize())


@layout
def layer_norm_alone(folder: Path) -> None:
    save_library(folder, LayerNorm(32))
    weights = {"norm.weight": torch.rand(32), "norm.bias": torch.rand(32)}
    save_file(weights, folder / "2_LayerNorm" / "model.safetensors")


@layout
def t5_encoder(folder: Path) -> None:
    path = source(folder, "T5Config", tokenizer=bare(), kind=AutoModelForSeq2SeqLM, **T5)
    save_library(folder, Dense(32, 16, bias=False), Normalize(), transformer=path)


@layout
def t5_without_a_listing(folder: Path) -> None:
    save_transformer(folder, "T5Config", tokenizer=bare(), kind=AutoModelForSeq2SeqLM, **T5)


@layout
def mt5_encoder(folder: Path) -> None:
    path = source(folder, "MT5Config", tokenizer=bare(), kind=AutoModelForSeq2SeqLM, **T5)
    save_library(folder, transformer=path)


@layout
def static(folder: Path) -> None:
    torch.manual_seed(0)
    model = StaticEmbedding(words().backend_tokenizer, embedding_dim=16)
    save(folder, SentenceTransformer(modules=[model], device="cpu"))


@layout
def static_normalized(folder: Path) -> None:
    torch.manual_seed(0)
    model = StaticEmbedding(words().backend_tokenizer, embedding_dim=16)
    save(folder, SentenceTransformer(modules=[model, Normalize()], device="cpu"))


@layout
def static_by_model2vec(folder: Path) -> None:
    static_normalized(folder)
    torch.manual_seed(0)
    found = {"embeddings": torch.rand(9, 16), "weights": torch.rand(17).double()}
    found["mapping"] = torch.randint(0, 9, (17,))
    file = next(folder.rglob("model.safetensors"))
    save_file(found, file)


@layout
def embedding_gemma(folder: Path) -> None:
    """Windows that look both ways, beside layers that see all."""
    path = source(
        folder,
        "Gemma3TextConfig",
        tokenizer=bare(),
        use_bidirectional_attention=True,
        sliding_window=8,
        head_dim=16,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        query_pre_attn_scalar=16,
    )
    dense = Dense(32, 64, bias=False, activation_function=nn.Identity())
    save_library(folder, dense, Normalize(), transformer=path)


@layout
def qwen3_embedding(folder: Path) -> None:
    path = source(
        folder, "Qwen3Config", tokenizer=words(typed=False, padding_side="left"), head_dim=16
    )
    instruct = {"query": "query : the "}
    save_library(
        folder, Pooling(32, "lasttoken"), Normalize(), transformer=path, prompts=instruct,
        default_prompt_name="query",
    )  # fmt: skip


@layout
def modernbert_with_narrow_windows(folder: Path) -> None:
    path = source(
        folder,
        "ModernBertConfig",
        local_attention=8,
        global_attn_every_n_layers=2,
        tokenizer=bare(),
    )
    save_library(folder, transformer=path)


@layout
def mistral_that_sees_a_window(folder: Path) -> None:
    path = source(folder, "MistralConfig", tokenizer=bare(), sliding_window=6)
    save_library(folder, Pooling(32, "lasttoken"), transformer=path)


@layout
def deberta(folder: Path) -> None:
    save_library(folder, transformer=source(folder, "DebertaV2Config"))


@layout
def electra(folder: Path) -> None:
    save_library(folder, transformer=source(folder, "ElectraConfig", embedding_size=16))


def two_ways(folder: Path, *, mean: str = "mean", **options: Any) -> Router:
    torch.manual_seed(0)
    quick = StaticEmbedding(words().backend_tokenizer, embedding_dim=16)
    slow = [Transformer(str(source(folder))), Pooling(32, mean), Dense(32, 16)]
    return Router.for_query_document([quick], slow, **options)


@tasked
def router_of_a_static_and_a_dense_way(folder: Path) -> None:
    save(folder, SentenceTransformer(modules=[two_ways(folder), Normalize()], device="cpu"))


@tasked
def router_of_two_transformers(folder: Path) -> None:
    torch.manual_seed(0)
    one, other = source(folder), save_transformer(folder / "source" / "b", "RobertaConfig")
    router = Router.for_query_document(
        [Transformer(str(one)), Pooling(32, "cls")], [Transformer(str(other)), Pooling(32, "max")]
    )
    prompts = {"query": "query :", "document": "A"}
    save(folder, SentenceTransformer(modules=[router], device="cpu", prompts=prompts))


@tasked
def router_by_mappings(folder: Path) -> None:
    torch.manual_seed(0)
    quick = StaticEmbedding(words().backend_tokenizer, embedding_dim=32)
    slow = [Transformer(str(source(folder))), Pooling(32)]
    router = Router(
        {"small": [quick], "large": slow},
        route_mappings={
            ("query", "text"): "small",
            (None, "text"): "large",
            ("query", None): "large",
        },
    )
    save(folder, SentenceTransformer(modules=[router], device="cpu"))


@tasked
def asym_of_an_older_version(folder: Path) -> None:
    router_of_a_static_and_a_dense_way(folder)
    (folder / "router_config.json").rename(folder / "config.json")
    lines = (folder / "modules.json").read_text()
    old = "sentence_transformers.models.Asym"
    (folder / "modules.json").write_text(
        lines.replace("sentence_transformers.base.modules.router.Router", old)
    )


@tasked
def prompts_of_tasks(folder: Path) -> None:
    prompts = {"query": "query :", "passage": "passage : the", "other": "A"}
    save_library(folder, prompts=prompts, default_prompt_name="other")


@tasked
def lengths_of_tasks(folder: Path) -> None:
    save_library(folder)
    change(folder / "sentence_bert_config.json", query_length=9, document_length=20)


def splade(folder: Path, config: str = "BertConfig", **options: Any) -> list[Any]:
    path = source(folder, config, kind=AutoModelForMaskedLM, vocab_size=17)
    return [Transformer(str(path), transformer_task="fill-mask"), SpladePooling(**options)]


@tasked
def splade_max(folder: Path) -> None:
    save(folder, SparseEncoder(modules=splade(folder), device="cpu"))


@tasked
def splade_sum_of_two_logarithms(folder: Path) -> None:
    modules = splade(folder, pooling_strategy="sum", activation_function="log1p_relu")
    save(folder, SparseEncoder(modules=modules, device="cpu", max_active_dims=7))


@tasked
def splade_of_an_older_version(folder: Path) -> None:
    save(folder, SparseEncoder(modules=splade(folder, "DistilBertConfig"), device="cpu"))
    lines = (folder / "modules.json").read_text()
    new = "sentence_transformers.base.modules.transformer.Transformer"
    old = "sentence_transformers.sparse_encoder.models.MLMTransformer"
    (folder / "modules.json").write_text(lines.replace(new, old))
    write(folder / "sentence_bert_config.json", {"max_seq_length": 60, "do_lower_case": True})


@tasked
def splade_whose_queries_need_no_model(folder: Path) -> None:
    torch.manual_seed(0)
    tokens = SparseStaticEmbedding(words(model_max_length=60), weight=torch.rand(17))
    router = Router.for_query_document([tokens], splade(folder))
    save(folder, SparseEncoder(modules=[router], device="cpu"))


def late(folder: Path, mask: MultiVectorMask | None = None, **options: Any) -> None:
    torch.manual_seed(0)
    dense = Dense(
        32, 8, bias=False, activation_function=nn.Identity(), module_input_name="token_embeddings"
    )
    modules = [
        Transformer(str(source(folder)), **options),
        dense,
        mask or MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    prompts = {"query": "query :", "document": "passage :"}
    save(folder, MultiVectorEncoder(modules=modules, device="cpu", prompts=prompts))


@tasked
def colbert(folder: Path) -> None:
    late(folder, query_expansion={"strategy": "fixed", "length": 62})


@tasked
def colbert_whose_queries_look_at_what_was_filled_in(folder: Path) -> None:
    expansion = {"strategy": "min", "attend": True, "length": 12, "token": "fox"}
    late(folder, MultiVectorMask(skiplist_words=[":", "the", "dog"]), query_expansion=expansion)


@tasked
def colbert_without_expansion(folder: Path) -> None:
    mask = MultiVectorMask(skiplist_words=[":"], skiplist_tasks=["query", "document"])
    late(folder, mask, document_length=62, query_length=61)


@refused("2_Dense/config.json: activation 'torch.nn.modules.activation.GLU' is not supported")
def dense_with_an_unknown_activation(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    path = folder / "2_Dense" / "config.json"
    change(path, activation_function="torch.nn.modules.activation.GLU")


@refused("2_Dense/config.json: activation 'os.system' is not supported")
def dense_with_code(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    change(folder / "2_Dense" / "config.json", activation_function="os.system")


@refused("2_Dense/model.safetensors. Pickled weights are never loaded")
def dense_that_is_pickled(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    folder = folder / "2_Dense"
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@refused("2_Dense/config.json: in_features and out_features")
def dense_of_another_shape(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    change(folder / "2_Dense" / "config.json", out_features=8)


@refused("a layer does not fit: it takes vectors of 16 numbers, and gets 32")
def dense_that_does_not_follow(folder: Path) -> None:
    save_library(folder)
    save_library(folder / "b", Dense(16, 8))
    shutil.copytree(folder / "b" / "2_Dense", folder / "2_Dense")
    lines = (folder / "b" / "modules.json").read_text()
    shutil.rmtree(folder / "b")
    (folder / "modules.json").write_text(lines)


@refused("2_Dense/config.json: module_output_name must be sentence_embedding")
def dense_into_another_name(folder: Path) -> None:
    save_library(folder, Dense(32, 16))
    change(folder / "2_Dense" / "config.json", module_output_name="other")


@refused("modules.json must list .*got Transformer, Pooling, WordWeights")
def word_weights(folder: Path) -> None:
    old_layout(folder, more=("WordWeights",))


@refused("modules.json must list .*got Transformer, CNN, Pooling")
def convolution_of_tokens(folder: Path) -> None:
    modules = [Transformer(str(source(folder))), CNN(32, 16), Pooling(48)]
    save(folder, SentenceTransformer(modules=modules, device="cpu"))


@refused("modules.json must list .*got Transformer, LSTM, Pooling")
def recurrent_tokens(folder: Path) -> None:
    modules = [Transformer(str(source(folder))), LSTM(32, 16), Pooling(32)]
    save(folder, SentenceTransformer(modules=modules, device="cpu"))


@refused("router_config.json.*there is no route other")
def router_to_nowhere(folder: Path) -> None:
    router_of_a_static_and_a_dense_way(folder)
    change(folder / "router_config.json", parameters={"default_route": "other"})


@refused("router_config.json names code of its own.*elsewhere.Module")
def router_to_code(folder: Path) -> None:
    router_of_a_static_and_a_dense_way(folder)
    file = folder / "router_config.json"
    file.write_text(
        file.read_text().replace("sentence_transformers.sentence_", "elsewhere.Module.")
    )


@refused("must hold embedding.weight")
def static_with_other_weights(folder: Path) -> None:
    static(folder)
    save_file({"table": torch.rand(17, 16)}, folder / "model.safetensors")


@refused("keep_only_token_ids is for images")
def colbert_of_images(folder: Path) -> None:
    late(folder, MultiVectorMask(keep_only_token_ids=[7]))


@refused("SpladePooling.*|pooling_strategy must be one of max, sum")
def splade_of_another_kind(folder: Path) -> None:
    splade_max(folder)
    change(folder / "1_SpladePooling" / "config.json", pooling_strategy="mean")


assert len(LAYOUTS) >= 40
