"""Work as engines get it: what one does to its input is not in what another, or the same again, is given."""

import msgspec
import pytest

from workers.engines.base import Work

REQUEST = b'{"content":{"a":[1,{"b":2}]},"params":{"stop":["x"]},"seed":7}'


def test_work_anew_has_nothing_of_what_was_done_to_the_first() -> None:
    first = Work.of("j", REQUEST, text="said", token_ids=(1,))
    first.content["a"][1].pop("b")
    first.content["a"].clear()
    first.params["stop"].append("y")  # type: ignore[index]

    again = first.anew()
    assert again.content == {"a": [1, {"b": 2}]} and again.params == {"stop": ["x"]}
    assert (again.id, again.seed, again.text, again.token_ids) == ("j", 7, "said", (1,))
    again.content["a"].clear()
    assert first.anew().content == {"a": [1, {"b": 2}]}


def test_work_without_a_stored_request_is_copied_as_it_is() -> None:
    work = Work("j", {"a": [1]}, {}, seed=0)
    work.anew().content["a"].clear()
    assert work.content == {"a": [1]}


def test_what_is_no_request_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        Work.of("j", b'{"content":1}')
