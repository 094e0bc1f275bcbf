"""The catalogue: defaults, paths, and errors that name the place and the value."""

import re
import sys
from pathlib import Path

import pytest

from shared.domain.errors import ConfigError, UnknownModel
from shared.domain.models.catalog_file import load_catalog


def write(folder: Path, text: str) -> Path:
    path = folder / "catalog.yaml"
    path.write_text(text, "utf-8")
    return path


def test_missing_lines_have_defaults(tmp_path: Path) -> None:
    spec = load_catalog(write(tmp_path, "models: {echo: {engine: echo}}")).get("echo")
    assert (spec.batch.max_size, spec.limits.run_timeout, spec.retries.max_attempts) == (32, 300, 3)


def test_paths_are_relative_to_the_file_or_inside_a_package(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    catalog = load_catalog(
        write(
            tmp_path,
            "models:\n  a: {engine: text-generation, path: m}\n"
            "  b: {engine: embedding, path: 'package:shared/domain'}\n",
        )
    )
    assert catalog.get("a").path == tmp_path / "m"
    path = catalog.get("b").path
    assert path is not None and (path / "records.py").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense: 1", "models"),
        ("models: {}", "models"),
        ("models: [", "not YAML"),
        ("models: {a: 3}", "models.a: must be a mapping, got 3"),
        ("models: {a: {engine: magic}}", "models.a.engine: 'magic'"),
        ("models: {a: {engine: text-generation}}", "models.a.path"),
        ("models: {a: {engine: embedding, path: gone}}", "no directory"),
        ("models: {a: {engine: embedding, path: 'package:no_such_pkg/x'}}", "not installed"),
        ("models: {a: {engine: echo, batch: {max_size: 0}}}", "models.a.batch.max_size"),
        ("models: {a: {engine: echo, colour: red}}", "models.a.colour"),
        ("models: {a: {engine: echo, prefix_cache: {shared: [x]}}}", "models.a.prefix_cache: only"),
        (
            "models: {a: {engine: text-generation, path: ., prefix_cache: {shared: ['']}}}",
            "models.a.prefix_cache.shared.0",
        ),
        ("models: {a: {engine: echo, speculation: auto}}", "models.a.speculation: only"),
        ("models: {a: {engine: echo, token_ids: true}}", "models.a.token_ids: only"),
        ("models: {a: {engine: text-generation, path: ., speculation: 3}}", "models.a.speculation"),
        (
            "models: {a: {engine: text-generation, path: ., speculation: {kind: draft_model}}}",
            "models.a.speculation",
        ),
        ("models: {'a b': {engine: echo}}", "models.a b.name"),
        ("models: {a: {engine: echo, fallback: b}}", "no model 'b'"),
        ("models: {a: {engine: echo, fallback: a}}", "models.a.fallback: a circle, a -> a"),
        (
            "models: {a: {engine: echo, fallback: b}, b: {engine: echo, fallback: a}}",
            "models.a.fallback: a circle, a -> b -> a",
        ),
        (
            "models: {a: {engine: echo, breaker: {failure_rate: 2}}}",
            "models.a.breaker.failure_rate",
        ),
        (
            "models: {a: {engine: echo, retries: {budget_floor: 0}}}",
            "models.a.retries.budget_floor",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_catalog(write(tmp_path, text))
    assert said in refused.value.detail and str(tmp_path) in refused.value.detail


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_catalog(tmp_path / "gone.yaml")


def test_an_unknown_model_names_the_known_ones(tmp_path: Path) -> None:
    catalog = load_catalog(write(tmp_path, "models: {echo: {engine: echo}}"))
    with pytest.raises(UnknownModel, match="echo"):
        catalog.get("nope")


def test_fallbacks_are_followed_to_their_end(tmp_path: Path) -> None:
    models = "a: {engine: echo, fallback: b}, b: {engine: echo, fallback: c}, c: {engine: echo}"
    catalog = load_catalog(write(tmp_path, f"models: {{{models}}}"))
    assert [spec.name for spec in catalog.fallbacks("a")] == ["b", "c"]
    assert catalog.fallbacks("c") == []


def test_an_interpreter_is_found_beside_the_catalogue_and_its_link_kept(tmp_path: Path) -> None:
    link = tmp_path / "env" / "python"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    file = tmp_path / "catalog.yaml"
    file.write_text("models: {m: {engine: echo, python: env/python}}")
    assert load_catalog(file).get("m").python == link

    file.write_text("models: {m: {engine: echo, python: env/none}}")
    with pytest.raises(ConfigError, match=r"models\.m\.python: there is no interpreter"):
        load_catalog(file)


ADAPTERS = """
models:
  base: {engine: text-generation, path: m, dtype: bf16, version: '1', fallback: other,
         limits: {max_prompt_tokens: 100, run_timeout: 7}, batch: {max_size: 3}}
  french: {base: base, adapter: a, limits: {max_new_tokens: 9}}
  german: {base: base, adapter: b, cache: {enabled: false}, fallback: base}
  other: {engine: echo}
"""


def test_an_adapter_has_all_else_of_its_base_and_its_host(tmp_path: Path) -> None:
    for name in ("m", "a", "b"):
        (tmp_path / name).mkdir()

    catalog = load_catalog(write(tmp_path, ADAPTERS))

    base, french, german = (catalog.get(name) for name in ("base", "french", "german"))
    assert (french.engine, french.path, french.dtype) == ("text-generation", tmp_path / "m", "bf16")
    assert (french.adapter, french.batch.max_size, french.version) == (tmp_path / "a", 3, "")
    assert (french.limits.max_prompt_tokens, french.limits.max_new_tokens) == (100, 9)
    assert (french.limits.run_timeout, french.fallback, german.fallback) == (7, None, "base")
    assert german.cache.enabled is False and base.cache.enabled is True
    assert [(one.name, one.path) for one in base.adapters] == [
        ("french", tmp_path / "a"),
        ("german", tmp_path / "b"),
    ]
    assert [one.name for one in french.adapters] == ["french"]
    assert [spec.name for spec in catalog.served_with("base")] == ["base", "french", "german"]
    assert [spec.name for spec in catalog.served_with("french")] == ["french"]
    assert [spec.name for spec in catalog.served_with("other")] == ["other"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{base: gone, adapter: .}", "models.x.base: no model 'gone'"),
        ("{base: e, adapter: .}", "models.x.base: e has engine 'echo'"),
        ("{base: y, adapter: .}", "models.x.base: y is an adapter itself; name its base, t"),
        ("{base: t}", "models.x.adapter: name the directory"),
        ("{base: t, adapter: gone}", "models.x.adapter: there is no directory"),
        ("{base: t, adapter: ., dtype: bf16}", "models.x.dtype: an adapter has this of its base"),
        ("{base: t, adapter: ., env: [A]}", "models.x.env: an adapter has this of its base"),
        ("{engine: text-generation, path: ., adapter: .}", "models.x.adapter: name the entry"),
        ("{engine: echo, adapters: []}", "models.x.adapters: give each adapter an entry"),
        (
            "{base: t, adapter: ., limits: {max_new_tokens: 513}}",
            "models.x.limits.max_new_tokens: 513 is more than the 512 of its base t",
        ),
    ],
)
def test_an_adapter_that_cannot_be_served_is_refused(tmp_path: Path, entry: str, said: str) -> None:
    text = (
        "models: {t: {engine: text-generation, path: .}, e: {engine: echo},"
        f" y: {{base: t, adapter: .}}, x: {entry}}}"
    )
    with pytest.raises(ConfigError, match=re.escape(said)):
        load_catalog(write(tmp_path, text))
