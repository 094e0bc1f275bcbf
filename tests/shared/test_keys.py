"""Keys are spelled once: Python's and the scripts' spellings agree."""

from redis import Redis

from shared.keys import TEMPLATES, Keys, lua_functions


def test_lua_spells_every_key_like_python(redis_url: str) -> None:
    redis = Redis.from_url(redis_url)
    for kind, (_, *parts) in TEMPLATES.items():
        values = [f"<{part}>" for part in parts]
        script = f"local PREFIX = ARGV[1]\n{lua_functions()}\nreturn key['{kind}'](unpack(ARGV, 2))"
        assert redis.eval(script, 0, "p", *values).decode() == Keys("p")(kind, *values)
    redis.close()
