"""The answers that views make are what Flask's would be, and what is to be called at the end is, once."""

import pytest
from flask import Response

from api.http.reply import Reply, in_flask


@pytest.mark.parametrize("status", [200, 202, 404, 429, 503])
def test_it_says_what_flasks_response_says(status: int) -> None:
    reply = Reply(b'{"a":1}', status, "application/json")
    reply.headers["Location"] = "http://a.example/b"
    theirs = Response(b'{"a":1}', status, content_type="application/json")
    theirs.headers["Location"] = "http://a.example/b"

    assert reply.status == theirs.status
    assert list(reply.headers.items()) == theirs.headers.to_wsgi_list()

    converted = in_flask(reply)
    assert converted.status == theirs.status
    assert converted.get_data() == theirs.get_data()
    assert converted.headers.to_wsgi_list() == theirs.headers.to_wsgi_list()


def test_a_header_is_set_once_however_often_it_is_given() -> None:
    reply = Reply(b"", 429, "application/json")
    reply.headers["Retry-After"] = "1"
    reply.headers["Retry-After"] = "7"

    assert in_flask(reply).headers.getlist("Retry-After") == ["7"]


def test_what_is_to_be_called_at_the_end_goes_along() -> None:
    called: list[int] = []
    reply = Reply(b"", 200, "application/json")
    reply.call_on_close(lambda: called.append(1))
    response = in_flask(reply)
    response.call_on_close(lambda: called.append(2))

    assert called == []
    response.close()

    assert called == [1, 2]


def test_flasks_own_stays_what_it_is() -> None:
    response = Response(status=204)

    assert in_flask(response) is response
