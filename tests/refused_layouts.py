"""Saved sentence-transformers layouts that are refused at load, one function each, by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import transformers
from sentence_transformers import CrossEncoder

from tests.sentence_layouts import Make, old_layout, save_transformer, write

REFUSED: dict[str, tuple[Make, str]] = {}


def refused(complaint: str) -> Callable[[Make], Make]:
    """Refused at load with a message in which `complaint` stands."""

    def add(make: Make) -> Make:
        REFUSED[make.__name__] = (make, complaint)
        return make

    return add


@refused("modules.json.*Normalize, Pooling")
def normalize_before_pooling(folder: Path) -> None:
    old_layout(folder, more=("Normalize",))
    lines = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", [lines[0], lines[2], lines[1]])


@refused("modules.json.*got Transformer")
def no_pooling(folder: Path) -> None:
    old_layout(folder)
    lines = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", lines[:1])


@refused("modules.json names code of its own.*custom_st.Transformer")
def custom_module(folder: Path) -> None:
    old_layout(folder)
    lines = json.loads((folder / "modules.json").read_text())
    write(folder / "modules.json", [lines[0] | {"type": "custom_st.Transformer"}, lines[1]])


@refused("1_Pooling/config.json: not supported: pool_twice")
def unknown_pooling_key(folder: Path) -> None:
    old_layout(folder, pooling={"word_embedding_dimension": 32, "pool_twice": True})


@refused("1_Pooling/config.json: pooling_mode 'median'")
def unknown_pooling_mode(folder: Path) -> None:
    old_layout(folder, pooling={"word_embedding_dimension": 32, "pooling_mode": "median"})


@refused("modules.json must list .* got Transformer, Pooling, Normalize")
def tokens_normalized_after_pooling(folder: Path) -> None:
    old_layout(folder, more=("Normalize",))
    write(folder / "2_Normalize" / "config.json", {"module_input_name": "token_embeddings"})


@refused("config_sentence_transformers.json: not supported: rescale")
def unknown_model_key(folder: Path) -> None:
    write(old_layout(folder) / "config_sentence_transformers.json", {"rescale": 2})


@refused("default_prompt_name 'other'")
def default_prompt_that_is_not_there(folder: Path) -> None:
    write(
        old_layout(folder) / "config_sentence_transformers.json", {"default_prompt_name": "other"}
    )


@refused("model_type 'CrossEncoder' .* engine: ranking")
def cross_encoder(folder: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    source = save_transformer(folder / "source", kind=kind, num_labels=1)
    CrossEncoder(str(source), device="cpu").save_pretrained(str(folder))
    shutil.rmtree(source)


@refused("requirements: transformers >=99")
def newer_libraries(folder: Path) -> None:
    wanted = {"requirements": {"transformers": ">=99"}}
    write(old_layout(folder) / "config_sentence_transformers.json", wanted)


@refused("sentence_bert_config.json: not supported: layer")
def unknown_transformer_key(folder: Path) -> None:
    old_layout(folder, layer=-2)


@refused("transformer_task 'fill-mask'")
def sparse_encoder(folder: Path) -> None:
    old_layout(folder, transformer_task="fill-mask")


@refused("modality_config.text must be forward, last_hidden_state")
def pooler_output(folder: Path) -> None:
    route = {"method": "forward", "method_output_name": "pooler_output"}
    old_layout(folder, modality_config={"text": route}, module_output_name="token_embeddings")


@refused("modality_config: not supported: image")
def images(folder: Path) -> None:
    route = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = {"text": route, "image": route}
    old_layout(folder, modality_config=modalities, module_output_name="token_embeddings")


@refused("tokenizer_args: not supported: do_lower_case")
def tokenizer_options(folder: Path) -> None:
    old_layout(folder, tokenizer_args={"do_lower_case": True})


@refused("model_args: not supported: num_hidden_layers")
def model_options(folder: Path) -> None:
    old_layout(folder, model_args={"num_hidden_layers": 1})


@refused("processing_kwargs.text: not supported: add_special_tokens")
def call_options(folder: Path) -> None:
    old_layout(folder, processing_kwargs={"text": {"add_special_tokens": False}})


@refused("processing_kwargs.text: not supported: pad_to_multiple_of")
def padding_of_a_lone_text(folder: Path) -> None:
    old_layout(folder, processing_kwargs={"text": {"pad_to_multiple_of": 8}})


@refused("query_expansion is supported before a MultiVectorMask alone, not before Pooling")
def queries_filled_up_before_pooling(folder: Path) -> None:
    old_layout(folder, query_expansion={"strategy": "fixed", "length": 32})


@refused("tokenizer_name_or_path is not supported")
def tokenizer_from_elsewhere(folder: Path) -> None:
    old_layout(folder, tokenizer_name_or_path="bert-base-uncased")


@refused("BertForSequenceClassification.* engine: ranking")
def plain_classifier(folder: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    save_transformer(folder, kind=kind, num_labels=1)


@refused("is_encoder_decoder")
def encoder_decoder(folder: Path) -> None:
    options = {
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    }
    save_transformer(folder, "BartConfig", d_model=32, **options)


@refused("attention_type block_sparse")
def sparse_attention_with_a_memory(folder: Path) -> None:
    save_transformer(folder, "BigBirdConfig", block_size=4, num_random_blocks=1)


@refused("sentence_bert_config.json and no modules.json")
def half_a_download(folder: Path) -> None:
    old_layout(folder)
    (folder / "modules.json").unlink()


@refused("preprocessor_config.json")
def processor_of_several_media(folder: Path) -> None:
    write(save_transformer(folder) / "preprocessor_config.json", {})


@refused("chat template")
def chat_without_a_template(folder: Path) -> None:
    route = {"method": "forward", "method_output_name": "last_hidden_state"}
    old_layout(folder, modality_config={"message": route}, module_output_name="token_embeddings")
