"""Keys are spelled once: Python's and the scripts' spellings agree."""

import pytest
from redis import Redis

from shared.store.keys import TEMPLATES, Keys, spelled_out


def test_lua_spells_every_key_like_python(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    for kind, (_, *parts) in TEMPLATES.items():
        if "-" in kind:
            continue  # Python's alone: no name in Lua.
        values = [f"<{part}>" for part in parts]
        given = ", ".join(f"ARGV[{number}]" for number, _ in enumerate(parts, 1))
        script = spelled_out(f"return key.{kind}({given})", "p")
        assert redis.eval(script, 0, *values).decode() == Keys("p")(kind, *values)
    redis.close()


def test_parts_of_a_key_may_be_any_expression() -> None:
    assert spelled_out("f(key.stats(model, int(now / 2)), key.clients()) -- key", "p") == (
        "f(('p:stats:' .. model .. ':' .. (int(now / 2))), ('p:clients')) -- key"
    )
    assert spelled_out("key.job(ids[i] or 'a, )b')", "p") == "('p:job:' .. (ids[i] or 'a, )b'))"


def test_a_key_of_another_kind_or_with_other_parts_is_refused() -> None:
    with pytest.raises(KeyError):
        spelled_out("key.job_(id)", "p")
    with pytest.raises(ValueError, match=r"key\.lane takes 3 parts"):
        spelled_out("key.lane(model, class)", "p")
