import subprocess
import sys
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from api.state.grammars import Grammars
from shared.domain.requests.grammars import MAX_ALTERNATIVES
from shared.grammars.refusal import GrammarRefused
from shared.store.jobs import JobStore
from tests.shared.grammars.test_sources import HOSTILE

JSON = "application/json"


def submitted(client: FlaskClient, **params: Any) -> Any:
    return client.post("/v1/jobs", json={"model": "llama", "prompt": "a", "params": params})


@pytest.mark.parametrize(
    ("grammar", "keyword"),
    [
        ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
        ({"json_schema": {"properties": {"a": {"not": {}}}}}, "not"),
        ({"regex": "(?=a)b"}, "regex"),
        ({"lark": "start: nobody"}, "lark"),
        *((HOSTILE[name], "") for name in ("2,000 choices of an enum", "a step of a million")),
    ],
)
def test_a_grammar_that_cannot_be_enforced_is_refused_before_anything_is_stored(
    client: FlaskClient, store: JobStore, grammar: dict[str, Any], keyword: str
) -> None:
    answer = submitted(client, grammar=grammar)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_grammar")
    assert keyword in answer.json["detail"]
    assert answer.json["errors"][0]["loc"][:2] == ["params", "grammar"]
    assert store.status("llama").waiting == 0


@pytest.mark.parametrize(
    "params",
    [
        {"grammar": {"json_schema": {}, "regex": "a"}},
        {"grammar": {}},
        {"grammar": "a"},
        {"grammar": {"json_schema": True}},
        {"grammar": {"choices": []}},
        {"grammar": {"choices": ["a"] * (MAX_ALTERNATIVES + 1)}},
        {"grammar": {"schema": {}}},
        {"grammar": {"regex": "a"}, "response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "xml"}},
    ],
)
def test_what_has_no_grammars_shape_is_an_invalid_request(
    client: FlaskClient, params: dict[str, Any]
) -> None:
    answer = submitted(client, **params)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"grammar": {"choices": "yes"}}, {"choices": ["yes"]}),
        (
            {"grammar": {"json_schema": {"enum": [None, 1.0], "default": None}}},
            {"json_schema": {"enum": [None, 1.0], "default": None}},
        ),
        ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "strict": True, "schema": {"type": "null"}},
                }
            },
            {"json_schema": {"type": "null"}},
        ),
        ({"response_format": {"type": "text"}}, None),
        ({}, None),
    ],
)
def test_the_worker_gets_one_grammar_whichever_way_it_was_asked_for(
    client: FlaskClient, store: JobStore, given: dict[str, Any], stored: Any
) -> None:
    assert submitted(client, **given).status_code == 202

    [claim] = store.claim("llama", 1, "w").claims
    params = msgspec.json.decode(claim.request)["params"]
    assert params.get("grammar") == stored
    assert "response_format" not in params


@pytest.mark.parametrize(
    ("choice", "parameters", "code", "keyword"),
    [
        ("required", {"not": {}}, "invalid_grammar", "not"),
        ("auto", {"not": {}}, None, ""),
        ("required", {"type": "object"}, None, ""),
        ({"type": "function", "function": {"name": "b"}}, {}, "invalid_grammar", "tool_choice"),
        ("always", {}, "invalid_request", "tool_choice"),
    ],
)
def test_a_call_that_must_be_made_has_to_be_enforceable(
    client: FlaskClient, choice: Any, parameters: dict[str, Any], code: str | None, keyword: str
) -> None:
    chat = {
        "messages": [{"role": "user", "content": "a"}],
        "tools": [{"type": "function", "function": {"name": "a", "parameters": parameters}}],
        "tool_choice": choice,
    }

    answer = client.post("/v1/jobs", json={"model": "llama", "input": chat})

    if code is None:
        assert answer.status_code == 202
    else:
        assert (answer.status_code, answer.json["code"]) == (422, code)
        assert keyword in answer.json["detail"]
        assert answer.json["errors"][0]["loc"][0] == "input"


def test_a_grammar_is_checked_once() -> None:
    seen: list[Any] = []

    def check(grammar: Any) -> None:
        seen.append(grammar)
        if grammar == {"regex": "bad"}:
            raise GrammarRefused(("regex",), "regex", "is bad")

    grammars = Grammars(check)

    for _ in range(3):
        grammars.check({"grammar": {"regex": "good"}})
        with pytest.raises(GrammarRefused, match="is bad"):
            grammars.check({"grammar": {"regex": "bad"}})
        grammars.check({})
    assert seen == [{"regex": "good"}, {"regex": "bad"}]


def test_the_order_of_a_schema_is_part_of_what_is_shared(
    client: FlaskClient, store: JobStore
) -> None:
    def body(properties: dict[str, Any]) -> dict[str, Any]:
        grammar = {"json_schema": {"properties": properties}}
        return {"model": "llama", "prompt": "a", "params": {"grammar": grammar}}

    one, other = {"a": {}, "b": {}}, {"b": {}, "a": {}}
    ids = [
        # Flask's own client would sort the names.
        client.post("/v1/jobs", data=msgspec.json.encode(body(p)), content_type=JSON).json["id"]
        for p in (one, other, one)
    ]

    shares = [store.get(name).fields["share"].split(" ")[0] for name in ids]
    assert shares[0] == shares[2] != shares[1]


GEVENT = """
import threading, time
from gevent import monkey
monkey.patch_all()
import gevent
from api.state.grammars import Grammars, GrammarsBusy
from shared.grammars.refusal import GrammarRefused
released = monkey.get_original("threading", "Event")()
held = []

def check(grammar):
    if grammar["regex"] == "slow":
        held.append(1)
        released.wait()

grammars = Grammars(check, seconds=0.3)

def busy():
    try:
        grammars.check({"grammar": {"regex": "slow"}})
    except GrammarsBusy as error:
        return error.code

asking = [gevent.spawn(busy) for _ in range(4)]
ticks = 0
while not all(one.ready() for one in asking):
    gevent.sleep(0.01)
    ticks += 1
print([one.value for one in asking], len(held), ticks > 5)
released.set()
gevent.sleep(0.05)
grammars.check({"grammar": {"regex": "quick"}})
print("served")
"""


def test_a_slow_check_keeps_no_other_request_waiting() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=60, check=True
    )

    told, served = ran.stdout.splitlines()
    assert told == f"{['grammars_busy'] * 4} 2 True"
    assert served == "served"
