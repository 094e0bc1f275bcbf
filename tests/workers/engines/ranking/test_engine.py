"""Scores are those of sentence-transformers' CrossEncoder, whoever shares the step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from tokenizers import processors

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from tests.engine_driver import drive
from tests.sentence_layouts import change, save_library, save_transformer, words, write
from tests.tiny_models import embedding_spec
from workers.engines.base import Failed, Work
from workers.engines.ranking.engine import Ranking

QUERY = "the quick query"
DOCUMENTS = [
    "fox",
    "the quick brown fox",
    "jobs queue : " * 3,
    "",
    "A brown fox passage",
    "the the quick " * 4,
]
PAIRS = [(QUERY, text) for text in DOCUMENTS] + [("fox", "A"), ("jobs", "queue queue")]
CLASSIFIER = transformers.AutoModelForSequenceClassification
PAIR_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}A {{ m.content }}{% elif m.role == 'query' %} query :"
    " {{ m.content }}{% else %} passage : {{ m.content }}{% endif %}{% endfor %} queue :"
)
Make = Callable[[Path], None]
LAYOUTS: dict[str, Make] = {}


def layout(make: Make) -> Make:
    LAYOUTS[make.__name__] = make
    return make


def classifier(folder: Path, config: str = "BertConfig", labels: int = 1, **options: Any) -> Path:
    return save_transformer(folder, config, kind=CLASSIFIER, num_labels=labels, **options)


def saved(folder: Path, config: str = "BertConfig", labels: int = 1, **options: Any) -> None:
    """As the library itself writes it."""
    given = {name: options.pop(name) for name in ("activation_fn", "prompts") if name in options}
    source = classifier(folder / "source", config, labels, **options)
    CrossEncoder(str(source), device="cpu", **given).save_pretrained(str(folder))
    shutil.rmtree(source)


@layout
def bert(folder: Path) -> None:
    saved(folder)


@layout
def bert_without_a_listing(folder: Path) -> None:
    classifier(folder)


@layout
def bert_of_an_older_version(folder: Path) -> None:
    classifier(folder)
    name = "torch.nn.modules.linear.Identity"
    change(folder / "config.json", sbert_ce_default_activation_function=name)


@layout
def activation_in_the_configuration(folder: Path) -> None:
    classifier(folder)
    inner = {"activation_fn": "torch.nn.modules.activation.Tanh", "version": "4.0.0"}
    change(folder / "config.json", sentence_transformers=inner)


@layout
def three_classes(folder: Path) -> None:
    saved(folder, labels=3)


@layout
def three_classes_with_softmax(folder: Path) -> None:
    saved(folder, labels=3, activation_fn=torch.nn.Softmax(dim=1))


@layout
def roberta(folder: Path) -> None:
    saved(folder, "RobertaConfig", tokenizer=words(typed=False))


@layout
def distilbert(folder: Path) -> None:
    saved(folder, "DistilBertConfig", tokenizer=words(typed=False))


@layout
def electra(folder: Path) -> None:
    saved(folder, "ElectraConfig")


@layout
def albert(folder: Path) -> None:
    saved(folder, "AlbertConfig")


@layout
def deberta(folder: Path) -> None:
    saved(folder, "DebertaV2Config")


@layout
def modernbert(folder: Path) -> None:
    options = {"local_attention": 8, "global_attn_every_n_layers": 2, "classifier_pooling": "cls"}
    saved(folder, "ModernBertConfig", tokenizer=words(typed=False), **options)


@layout
def modernbert_of_means(folder: Path) -> None:
    saved(folder, "ModernBertConfig", tokenizer=words(typed=False), classifier_pooling="mean")


@layout
def qwen_classifier(folder: Path) -> None:
    saved(folder, "Qwen3Config", tokenizer=words(typed=False), head_dim=16)


@layout
def bart(folder: Path) -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    tokenizer = words(typed=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A $B [SEP]", special_tokens=[("[SEP]", 3)]
    )
    classifier(folder, "BartConfig", tokenizer=tokenizer, d_model=32, eos_token_id=3, **sizes)


@layout
def prompts(folder: Path) -> None:
    saved(folder, prompts={"q": "query : "})
    change(folder / "config_sentence_transformers.json", default_prompt_name="q")


@layout
def lower_case_and_short(folder: Path) -> None:
    saved(folder)
    change(folder / "sentence_bert_config.json", do_lower_case=True, max_seq_length=24)


def language_model(folder: Path, **options: Any) -> None:
    tokenizer = words(typed=False, padding_side="left", **options)
    kind = transformers.AutoModelForCausalLM
    source = save_transformer(
        folder / "source", "Qwen3Config", tokenizer=tokenizer, kind=kind, head_dim=16
    )
    first = Transformer(str(source), transformer_task="text-generation")
    CrossEncoder(modules=[first, LogitScore(7, 11)], device="cpu").save_pretrained(str(folder))
    shutil.rmtree(source)


@layout
def language_model_of_plain_pairs(folder: Path) -> None:
    language_model(folder)


@layout
def language_model_with_a_chat_template(folder: Path) -> None:
    language_model(folder, chat_template=PAIR_TEMPLATE)


def ranking_spec(path: Path, **options: Any) -> ModelSpec:
    fields = {"batch": Batch(max_size=8, token_budget=200), "limits": Limits(max_prompt_tokens=512)}
    return embedding_spec(path, **(fields | options)).model_copy(update={"engine": "ranking"})


def served(path: Path, **options: Any) -> Ranking:
    engine = Ranking(ranking_spec(path, **options))
    engine.load()
    return engine


def output(engine: Ranking, content: Any, **params: Any) -> Any:
    return drive(engine, [Work("a", content, params, seed=0)]).finished("a").output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bert")
    saved(path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Ranking:
    return served(folder)


@pytest.mark.parametrize("name", LAYOUTS)
def test_scores_are_the_librarys(name: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)
    engine = served(tmp_path)
    works = [Work(str(n), [list(pair)], {"truncate": True}, seed=0) for n, pair in enumerate(PAIRS)]

    ran = drive(engine, works)
    together = output(engine, [list(pair) for pair in PAIRS], truncate=True)["scores"]

    right = CrossEncoder(str(tmp_path), device="cpu").predict(PAIRS)
    found = [ran.finished(work.id).output["scores"][0] for work in works]
    assert np.ptp(right) > 1e-3, "scores that tell the pairs apart"
    assert np.allclose(found, right, atol=2e-5)
    assert np.allclose(together, right, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "way"),
    [("bert", "packed"), ("qwen_classifier", "packed"), ("modernbert_of_means", "packed"),
     ("language_model_of_plain_pairs", "packed"), ("deberta", "padded"), ("bart", "equal lengths")],
)  # fmt: skip
def test_how_pairs_share_a_pass(name: str, way: str, tmp_path: Path) -> None:
    LAYOUTS[name](tmp_path)

    info = Ranking(ranking_spec(tmp_path)).load()

    assert info.details["batching"] == way, info.details["reason"]


def test_documents_come_in_the_order_of_their_scores(engine: Ranking, folder: Path) -> None:
    found = output(engine, {"query": QUERY, "documents": DOCUMENTS, "top_n": 4})["results"]

    right = CrossEncoder(str(folder), device="cpu").rank(QUERY, DOCUMENTS, top_k=4)
    assert [row["index"] for row in found] == [row["corpus_id"] for row in right]
    assert [row["score"] for row in found] == pytest.approx(
        [row["score"] for row in right], abs=1e-5
    )


def test_classes_have_names_and_a_prediction(tmp_path: Path) -> None:
    saved(tmp_path, labels=3, id2label={0: "no", 1: "maybe", 2: "yes"})
    engine = served(tmp_path)

    found = output(engine, ["the fox", "jobs queue"], activation="softmax")

    model = CLASSIFIER.from_pretrained(tmp_path).eval()
    tokens = words()(["the fox", "jobs queue"], return_tensors="pt")
    right = model(**tokens).logits.softmax(dim=-1).detach().numpy()
    assert np.allclose(found["scores"], right, atol=1e-5)
    assert found["labels"] == ["no", "maybe", "yes"]
    assert found["predictions"] == [found["labels"][n] for n in np.argmax(right, axis=1)]
    with pytest.raises(InputRefused, match=r"3 labels .*send pairs"):
        engine.admit(Work("a", {"query": "a", "documents": ["b"]}, {}, seed=0))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pair_that_is_too_long_is_cut_by_choice(engine: Ranking, folder: Path, side: str) -> None:
    long = "the quick brown fox jobs queue " * 12
    pairs = [["fox", long], [long, long], [long, "fox"]]

    with pytest.raises(InputRefused, match=r"Pair 0 has .* params\.truncate") as refusal:
        engine.admit(Work("a", pairs, {}, seed=0))
    found = output(engine, pairs, truncate=side)["scores"]

    model = CrossEncoder(str(folder), device="cpu")
    model.tokenizer.truncation_side = side
    assert refusal.value.code == "prompt_too_long"
    assert np.allclose(found, model.predict(pairs), atol=1e-5)


def test_in_bfloat16_a_score_does_not_depend_on_its_company(folder: Path) -> None:
    engine = served(folder, dtype="bfloat16")
    alone = [output(engine, [list(pair)])["scores"][0] for pair in PAIRS]

    assert output(engine, [list(pair) for pair in PAIRS])["scores"] == alone


def test_a_score_that_is_no_number_ends_one_job(
    engine: Ranking, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = engine._model.scorer.score

    def poisoned(texts: Any) -> Any:
        rows = score(texts)
        rows[1][0] = float("nan")
        return rows

    monkeypatch.setattr(engine._model.scorer, "score", poisoned)
    ran = drive(engine, [Work(str(n), [list(PAIRS[n])], {}, seed=0) for n in range(3)])

    assert [isinstance(ran.outcomes[str(n)], Failed) for n in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    "content",
    [7, [], {}, [["a"]], [["a", "b", "c"]], [["a", 7]], {"query": "a"}, {"query": "a", "documents": []},
     {"query": "a", "documents": ["b"], "top_n": 0}, {"query": "a", "documents": ["b"], "more": 1}],
)  # fmt: skip
def test_other_input_is_refused(engine: Ranking, content: Any) -> None:
    with pytest.raises(InputRefused, match="The input must be"):
        engine.admit(Work("a", content, {}, seed=0))

    assert engine.pending() == 0


def embedder(folder: Path) -> None:
    save_library(folder)


def plain_encoder(folder: Path) -> None:
    save_transformer(folder)


def other_activation(folder: Path) -> None:
    saved(folder)
    change(folder / "config_sentence_transformers.json", activation_fn="my_code.Function")


def template_without_pairs(folder: Path) -> None:
    language_model(folder, chat_template=PAIR_TEMPLATE)
    template = (
        "{% for m in messages %}{% if m.role == 'query' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    (folder / "chat_template.jinja").write_text(template)


def without_yes(folder: Path) -> None:
    kind = transformers.AutoModelForCausalLM
    save_transformer(folder, "LlamaConfig", tokenizer=words(typed=False), kind=kind)


def token_outside(folder: Path) -> None:
    language_model(folder)
    write(folder / "1_LogitScore" / "config.json", {"true_token_id": 400})


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (embedder, "model_type 'SentenceTransformer' .*engine: embedding"),
        (plain_encoder, "BertModel, which has no head for scores .*engine: embedding"),
        (other_activation, "activation 'my_code.Function' is not supported"),
        (template_without_pairs, "chat template leaves out the messages of query or document"),
        (without_yes, "tokens yes and no, and its tokenizer lacks them"),
        (token_outside, "LogitScore names tokens outside"),
    ],
)
def test_what_is_not_served_is_refused_by_name(make: Make, complaint: str, tmp_path: Path) -> None:
    make(tmp_path)

    with pytest.raises(ConfigError, match=complaint):
        Ranking(ranking_spec(tmp_path)).load()
