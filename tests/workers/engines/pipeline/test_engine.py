"""Each task answers as transformers' own pipeline does on the same input alone."""

import base64
import io
import json
import math
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from jsonschema import Draft202012Validator
from PIL import Image

from shared.domain.errors import ConfigError, InputRefused
from shared.domain.models.catalog import Batch, Limits, ModelSpec
from shared.domain.pipeline_outputs import PIPELINE_OUTPUTS
from tests.engine_driver import drive
from tests.sentence_layouts import save_transformer, words
from workers.engines.base import Failed, Work
from workers.engines.pipeline.engine import PipelineEngine
from workers.engines.pipeline.tasks import TASKS

RATE = 16_000
SEQ2SEQ = transformers.AutoModelForSeq2SeqLM


def save(folder: Path, config: Any, auto_model: Any, *processors: Any) -> Path:
    torch.manual_seed(0)
    auto_model.from_config(config).save_pretrained(folder)
    for processor in processors:
        processor.save_pretrained(folder)
    return folder


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    numbers = np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8)
    return Image.fromarray(numbers)


def image(seed: int, size: tuple[int, int] = (40, 30)) -> dict[str, str]:
    packed = io.BytesIO()
    picture(seed, size).save(packed, "PNG")
    return {"image": base64.b64encode(packed.getvalue()).decode()}


def samples(seed: int, seconds: float = 0.2, rate: int = RATE) -> np.ndarray[Any, Any]:
    found = np.random.default_rng(seed).normal(0, 0.2, int(seconds * rate)).clip(-1, 1)
    return np.round(found * 32767).astype("<i2")


def sound(seed: int, seconds: float = 0.2, rate: int = RATE) -> dict[str, str]:
    packed = io.BytesIO()
    with wave.open(packed, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(rate)
        written.writeframes(samples(seed, seconds, rate).tobytes())
    return {"audio": base64.b64encode(packed.getvalue()).decode()}


VISION: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}


def image_classification(folder: Path) -> None:
    config = transformers.ViTConfig(**VISION, image_size=32, patch_size=8, num_labels=4)
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    save(folder, config, transformers.AutoModelForImageClassification, processor)


def object_detection(folder: Path) -> None:
    config = transformers.YolosConfig(
        **VISION, image_size=[64, 64], patch_size=16, num_detection_tokens=5, num_labels=3
    )
    processor = transformers.YolosImageProcessor(size={"shortest_edge": 48, "longest_edge": 64})
    save(folder, config, transformers.AutoModelForObjectDetection, processor)


WAVES: dict[str, Any] = VISION | {
    "conv_dim": (16, 16),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
}


def audio_classification(folder: Path) -> None:
    config = transformers.Wav2Vec2Config(**WAVES, num_labels=4, classifier_proj_size=16)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    save(folder, config, transformers.AutoModelForAudioClassification, extractor)


def speech(folder: Path) -> None:
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefg"]
    folder.mkdir(exist_ok=True)
    (folder / "letters.json").write_text(json.dumps({one: n for n, one in enumerate(letters)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "letters.json"))
    (folder / "letters.json").unlink()
    config = transformers.Wav2Vec2Config(**WAVES, vocab_size=len(letters), pad_token_id=0)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    processor = transformers.Wav2Vec2Processor(extractor, tokenizer)
    save(folder, config, transformers.AutoModelForCTC, processor)


def text_to_text(folder: Path) -> None:
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    save_transformer(
        folder, "BartConfig", kind=SEQ2SEQ, d_model=32, tokenizer=words(typed=False),
        decoder_start_token_id=2, bos_token_id=2, eos_token_id=3, forced_eos_token_id=3, **sizes,
    )  # fmt: skip


def text_classification(folder: Path) -> None:
    kind = transformers.AutoModelForSequenceClassification
    save_transformer(folder, kind=kind, num_labels=3)


def entailment(folder: Path) -> None:
    labels = {0: "contradiction", 1: "neutral", 2: "entailment"}
    kind = transformers.AutoModelForSequenceClassification
    save_transformer(folder, kind=kind, id2label=labels, label2id={v: k for k, v in labels.items()})


def words_of_kinds(folder: Path) -> None:
    save_transformer(folder, kind=transformers.AutoModelForTokenClassification, num_labels=3)


Case = tuple[Callable[[Path], None], list[Any], list[Any], dict[str, Any], dict[str, Any]]
TEXTS = ["the quick fox", "jobs queue : A", "A quick query", "fox"]
SOUNDS = [sound(1), sound(2), sound(3, 0.3)]
RAW = [samples(1), samples(2), samples(3, 0.3)]
HEARD = [{"raw": raw.astype(np.float32) / 32768, "sampling_rate": RATE} for raw in RAW]
SEEN = [picture(n) for n in range(3)]
GROUPED = {"aggregation_strategy": "simple"}
LABELS = {"candidate_labels": ["fox", "queue"]}
CASES: dict[str, Case] = {
    "image-classification": (
        image_classification, [image(n) for n in range(3)], SEEN, {"top_k": 2}, {"top_k": 2},
    ),
    "object-detection": (
        object_detection, [image(n) for n in range(3)], SEEN, {"threshold": 0.2}, {"threshold": 0.2},
    ),
    "audio-classification": (audio_classification, SOUNDS, HEARD, {}, {}),
    "automatic-speech-recognition": (speech, SOUNDS, HEARD, {}, {}),
    "text-classification": (text_classification, TEXTS, TEXTS, {"top_k": 3}, {"top_k": 3}),
    "token-classification": (
        words_of_kinds, TEXTS, TEXTS, GROUPED, GROUPED,
    ),
    "zero-shot-classification": (
        entailment, TEXTS, TEXTS, LABELS, LABELS,
    ),
}  # fmt: skip


def spec(path: Path, task: Any, **options: Any) -> ModelSpec:
    return ModelSpec(
        name="m", engine="pipeline", path=path, device="cpu", threads=1, options={"task": task},
        batch=Batch(max_size=8), limits=Limits(max_prompt_tokens=60, max_new_tokens=6), **options,
    )  # fmt: skip


def served(path: Path, task: str, **options: Any) -> PipelineEngine:
    engine = PipelineEngine(spec(path, task, **options))
    engine.load()
    return engine


def alike(found: Any, right: Any) -> bool:
    if isinstance(right, dict):
        return found.keys() == right.keys() and all(alike(found[k], right[k]) for k in right)
    if isinstance(right, list | tuple):
        return len(found) == len(right) and all(map(alike, found, right))
    if isinstance(right, float | np.floating):
        return math.isclose(found, float(right), abs_tol=1e-5)
    return bool(found == right)


@pytest.mark.parametrize("task", CASES)
def test_a_task_answers_as_transformers_does(task: str, tmp_path: Path) -> None:
    make, contents, inputs, params, options = CASES[task]
    make(tmp_path)
    engine = served(tmp_path, task)
    works = [Work(str(n), content, params, seed=0) for n, content in enumerate(contents)]

    for work in works:
        engine.admit(work)
    while len(engine._rows) < len(works):  # the reader's thread makes long inputs ready
        engine._intake.take_in()
    ran = drive(engine)

    assert [step.batch_size for step in ran.steps] == [len(works)]
    pipe = transformers.pipeline(task, model=str(tmp_path), device="cpu")
    tell_apart = {str(ran.finished(work.id).output) for work in works}
    for work, item in zip(works, inputs, strict=True):
        found, right = ran.finished(work.id).output, pipe(item, **options)
        assert alike(found, right), (found, right)
        Draft202012Validator(PIPELINE_OUTPUTS[task].json_schema()).validate(found)
    assert len(tell_apart) > 1, "inputs that differ"


def test_every_task_says_what_it_answers() -> None:
    assert PIPELINE_OUTPUTS.keys() == TASKS.keys()


@pytest.mark.parametrize(
    ("task", "name"), [("translation", "translation_text"), ("summarization", "summary_text")]
)
def test_text_to_text_gives_what_generate_gives(task: str, name: str, tmp_path: Path) -> None:
    text_to_text(tmp_path)
    engine = served(tmp_path, task)
    works = [Work(str(n), text, {"prefix": "A : "}, seed=0) for n, text in enumerate(TEXTS)]

    ran = drive(engine, works)

    model, tokenizer = SEQ2SEQ.from_pretrained(tmp_path).eval(), words(typed=False)
    for work in works:
        tokens = tokenizer(f"A : {work.content}", return_tensors="pt")
        ids = model.generate(**tokens, max_new_tokens=6)[0]
        right = tokenizer.decode(ids, skip_special_tokens=True)
        assert ran.finished(work.id).output == {name: right}
        PIPELINE_OUTPUTS[task].validate_python({name: right}, strict=True)


def test_a_sound_of_another_rate_is_resampled(tmp_path: Path) -> None:
    audio_classification(tmp_path)
    engine = served(tmp_path, "audio-classification")
    t = np.arange(8000) / 8000
    tone = (np.sin(2 * math.pi * 440 * t) * 20_000).astype("<i2")
    packed = io.BytesIO()
    with wave.open(packed, "wb") as written:
        written.setparams((1, 2, 8000, 0, "NONE", ""))
        written.writeframes(tone.tobytes())

    content = {"audio": base64.b64encode(packed.getvalue()).decode()}
    found = engine._pipeline._item(content)

    right = np.sin(2 * math.pi * 440 * np.arange(RATE) / RATE) * 20_000 / 32768
    assert found["sampling_rate"] == RATE and len(found["raw"]) == RATE
    assert np.abs(found["raw"] - right)[500:-500].max() < 0.01


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> PipelineEngine:
    folder = tmp_path_factory.mktemp("vit")
    image_classification(folder)
    return served(folder, "image-classification")


BOMB = io.BytesIO()
Image.new("1", (13_400, 13_400)).save(BOMB, "PNG")


@pytest.mark.parametrize(
    ("content", "params", "complaint"),
    [
        ("http://127.0.0.1/x.png", {}, "The input must be"),
        ({"image": "http://127.0.0.1/x.png"}, {}, "is not base64"),
        ({"image": "/etc/passwd"}, {}, "is not base64|is no image"),
        ({"image": base64.b64encode(b"GIF89a").decode()}, {}, "is no image of PNG"),
        ({"image": base64.b64encode(BOMB.getvalue()).decode()}, {}, "more than 67108864 pixels"),
        ({"audio": "AAAA"}, {}, "The input must be"),
        (image(1), {"candidate_labels": ["a"]}, "candidate_labels is not of image-classification"),
    ],
)
def test_input_that_is_not_the_tasks_ends_alone(
    pictures: PipelineEngine, content: Any, params: dict[str, Any], complaint: str
) -> None:
    if isinstance(content, dict) and len(str(content)) > 4096:
        ran = drive(pictures, [Work("bad", content, params, seed=0), Work("good", image(2), {}, 0)])
        assert isinstance(ran.outcomes["bad"], Failed)
        assert complaint in ran.outcomes["bad"].message
        assert ran.finished("good").output
        return
    with pytest.raises(InputRefused, match=complaint):
        pictures.admit(Work("bad", content, params, seed=0))
    assert pictures.pending() == 0


def test_jobs_with_other_params_do_not_share_a_batch(tmp_path: Path) -> None:
    text_to_text(tmp_path)
    engine = served(tmp_path, "summarization")
    wanted = [2, 4, 2]
    works = [
        Work(str(n), "fox", {"max_new_tokens": count}, seed=0) for n, count in enumerate(wanted)
    ]

    ran = drive(engine, works)

    assert [step.batch_size for step in ran.steps] == [2, 1]
    assert ran.finished("0").output == ran.finished("2").output
    with pytest.raises(InputRefused, match="at most 6"):
        engine.admit(Work("a", "fox", {"max_new_tokens": 7}, seed=0))


def test_an_output_that_cannot_be_read_ends_one_job(
    pictures: PipelineEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pictures._pipeline._pipe
    postprocess, calls = pipe.postprocess, iter(range(10))

    def failing(found: Any, **options: Any) -> Any:
        if next(calls) == 1:
            raise ValueError("no such label")
        return postprocess(found, **options)

    monkeypatch.setattr(pipe, "postprocess", failing)
    ran = drive(pictures, [Work(str(n), image(n, (8, 8)), {}, seed=0) for n in range(3)])

    assert [isinstance(ran.outcomes[str(n)], Failed) for n in range(3)] == [False, True, False]


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        (None, "name a task, such as"),
        ("text-generation", "serve text-generation with engine: text-generation"),
        ("juggling", "'juggling' is none of audio-classification"),
        ("audio-classification", "no model of vit does audio-classification"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(
    task: Any, complaint: str, tmp_path: Path
) -> None:
    image_classification(tmp_path)

    with pytest.raises(ConfigError, match=complaint):
        PipelineEngine(spec(tmp_path, task)).load()


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    image_classification(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")

    with pytest.raises(ConfigError, match="Pickled weights are never loaded"):
        PipelineEngine(spec(tmp_path, "image-classification")).load()


def test_an_image_of_an_output_becomes_a_file_where_that_is_asked(tmp_path: Path) -> None:
    few = {"depths": [1] * 4, "num_attention_heads": [1] * 4, "hidden_sizes": [8] * 4}
    config = transformers.GLPNConfig(**few, decoder_hidden_size=8)
    processor = transformers.GLPNImageProcessor()
    save(tmp_path, config, transformers.AutoModelForDepthEstimation, processor)
    engine, given = served(tmp_path, "depth-estimation"), image(1, (64, 64))

    works = [Work("plain", given, {}, seed=0), Work("filed", given, {"files": True}, seed=0)]
    ran = drive(engine, works)
    plain, filed = (ran.finished(work.id).output for work in works)

    assert filed["depth"] == {"file": {"name": "image.png", "base64": plain["depth"]}}
    assert filed["predicted_depth"] == plain["predicted_depth"]
