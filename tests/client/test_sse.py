from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from client.sse import Parser, ServerEvent


def parse(*chunks: bytes) -> list[ServerEvent]:
    parser = Parser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_an_event_has_its_type_data_and_id() -> None:
    assert parse(b'id: 1-2\nevent: token\ndata: {"a": 1}\n\n') == [
        ServerEvent("token", '{"a": 1}', "1-2")
    ]


def test_lines_end_with_cr_lf_or_both() -> None:
    expected = [ServerEvent("message", "a\nb", "")]
    assert parse(b"data: a\ndata: b\n\n") == expected
    assert parse(b"data: a\rdata: b\r\r") == expected
    assert parse(b"data: a\r\ndata: b\r\n\r\n") == expected
    assert parse(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == expected


def test_unicode_line_separators_end_no_line() -> None:
    text = "a\u2028b\u0085c\x0bd"
    assert parse(f"data: {text}\n\n".encode()) == [ServerEvent("message", text, "")]


def test_a_byte_order_mark_is_skipped_once_even_in_pieces() -> None:
    assert parse(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == [ServerEvent("message", "a", "")]
    assert parse(b"data: a\n\n\xef\xbb\xbfdata: b\n\n") == [ServerEvent("message", "a", "")]


def test_only_one_space_after_the_colon_is_taken_off() -> None:
    assert parse(b"data:  a\ndata:b\n\n") == [ServerEvent("message", " a\nb", "")]


def test_comments_and_unknown_fields_are_ignored() -> None:
    assert parse(b": heartbeat\n\ncolour: red\ndata: a\n\n") == [ServerEvent("message", "a", "")]


def test_an_event_without_data_is_no_event_but_its_id_counts() -> None:
    parser = Parser()
    assert parser.feed(b"id: 7\nevent: x\n\n") == []
    assert parser.last_event_id == "7"
    assert parser.feed(b"data: a\n\n") == [ServerEvent("message", "a", "7")]


def test_a_data_field_without_a_value_is_an_empty_line() -> None:
    assert parse(b"data\n\n", b"data:\ndata\n\n") == [
        ServerEvent("message", "", ""),
        ServerEvent("message", "\n", ""),
    ]


def test_an_id_with_nul_is_ignored_and_an_empty_one_resets() -> None:
    assert parse(b"id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\nid\ndata: c\n\n") == [
        ServerEvent("message", "a", "1"),
        ServerEvent("message", "b", "1"),
        ServerEvent("message", "c", ""),
    ]


def test_retry_takes_digits_only() -> None:
    parser = Parser()
    parser.feed(b"retry: 250\n")
    assert parser.retry_ms == 250
    parser.feed("retry: -1\nretry: 1.5\nretry:\nretry: ٣\nretry: 99999999999999\n".encode())
    assert parser.retry_ms == 250


def test_an_unfinished_event_is_dropped_and_so_is_its_id() -> None:
    parser = Parser()
    events = parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert [event.data for event in events] == ["a"]
    assert parser.last_event_id == "1"


bodies = st.lists(
    st.one_of(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"data:", b"data: ", b"id: 1", b"event: x", b"retry: 9"]
        ),
        st.sampled_from([b":", b" ", b"\xef\xbb\xbf", b"\0", "é€😀".encode(), b"\xf0\x9f"]),
        st.binary(max_size=4),
    ),
    max_size=40,
).map(b"".join)


@given(bodies, st.lists(st.integers(0, 200), max_size=30))
def test_any_chunking_gives_the_same_events(body: bytes, cuts: list[int]) -> None:
    whole, pieces = Parser(), Parser()
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    chunks = [body[start:end] for start, end in pairwise(edges)]

    expected = whole.feed(body)
    received = [event for chunk in chunks for event in pieces.feed(chunk)]

    assert received == expected
    assert pieces.last_event_id == whole.last_event_id
    assert pieces.retry_ms == whole.retry_ms


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1), max_size=8))
def test_what_a_server_writes_is_what_a_reader_gets(texts: list[str]) -> None:
    texts = [text.replace("\r", "\n") for text in texts]
    body = "".join(
        "".join(f"data: {line}\n" for line in text.split("\n")) + "\n" for text in texts
    ).encode()
    assert [event.data for event in parse(*(body[i : i + 1] for i in range(len(body))))] == texts
