"""Where webhooks may go: a table of hostile URLs, and the ways around it that the operator may open."""

import socket
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.webhooks.lookups import Unresolved, resolve_by_system
from shared.webhooks.policy import Allowed, UrlPolicy
from shared.webhooks.urls import WebhookRefused, parse_target
from tests.conftest import PATIENCE

PUBLIC = "93.184.216.34"

HOSTILE = [
    # not https, or no URL at all
    "",
    "example.com/hook",
    "//example.com/hook",
    "http://example.com/hook",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://example.com:70/_x",
    "javascript:alert(1)",
    "https:example.com",
    "https:/example.com",
    "https:///example.com",
    "https://",
    "https://?x",
    # user names, and hosts that two parsers read differently
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com@127.0.0.1/",
    "https://127.0.0.1#@example.com/",
    "https://example.com#@127.0.0.1/",
    "https://127.0.0.1\\@example.com/",
    "https://example.com\\.internal/",
    "https://exam ple.com/",
    "https://example.com\t.internal/",
    "https://example.com\r\nHost: internal/",
    "https://example.com/\x00",
    "https://\u200bexample.com /",
    "https://example.com%2f@127.0.0.1/",
    "https://127.0.0.1%00.example.com/",
    "https://example.com:443:80/",
    "https://example.com:80a/",
    "https://example.com:-1/",
    "https://[example.com]/",
    "https://[::1/",
    "https://::1/",
    "https://exa[mple.com/",
    "https://.example.com/",
    "https://example..com/",
    "https://example.com./",
    "https://-example.com/",
    "https://" + "a" * 64 + ".com/",
    "https://" + "a." * 127 + "com/",
    "https://example.com/" + "a" * 2048,
    "https://example.com/ü",
    # ports
    "https://example.com:0/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:80/",
    "https://example.com:65536/",
    "https://example.com:99999/",
    # this machine, in every spelling
    "https://127.0.0.1/",
    "https://127.0.0.1./",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.255.255.254/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0X7F.0.0.1/",
    "https://0x/",
    "https://example.0x7f/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.0.0.01/",
    "https://127.0.0.1.1/",
    "https://256.256.256.256/",
    "https://0/",
    "https://0.0.0.0/",
    "https://１２７.０.０.１/",
    "https://①②⑦.0.0.1/",
    "https://127。0。0。1/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[v1.fe]/",
    # an IPv4 address inside an IPv6 one
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:93.184.216.34]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::5db8:d822]/",
    "https://[64:ff9b:1::a00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a00:1::1]/",
    "https://[2001:0:53aa:64c:0:fbff:80ff:fffe]/",
    "https://[2606:4700::5efe:7f00:1]/",
    "https://[2606:4700::200:5efe:a00:1]/",
    # private networks and clouds' metadata
    "https://10.0.0.1/",
    "https://100.64.0.1/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.170.2/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://192.88.99.1/",
    "https://192.168.1.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fd20:ce::254]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://[2001:db8::1]/",
    "https://[2001:2::1]/",
    "https://[3fff::1]/",
    "https://[5f00::1]/",
]

PRIVATE_ANSWERS = [
    ["127.0.0.1"],
    ["10.1.2.3"],
    ["169.254.169.254"],
    ["0.0.0.0"],
    ["::1"],
    ["fe80::1%2"],
    ["fd00::1"],
    ["::ffff:10.0.0.1"],
    ["64:ff9b::a00:1"],
    ["2002:a00:1::1"],
    [PUBLIC, "10.0.0.1"],
    ["2606:4700::1111", "::1"],
]


def names(*found: str) -> "UrlPolicy":
    return UrlPolicy(Allowed(), lambda host, port: found)


def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError("nothing may be resolved")


def test_the_table_is_long_enough() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_url_is_refused_before_anything_is_resolved(url: str) -> None:
    with pytest.raises(WebhookRefused) as refused:
        UrlPolicy(Allowed(), never).admit(url, "t")
    [row] = refused.value.errors
    assert row["loc"] == ["webhook", "url"] and refused.value.problem.status == 422


@pytest.mark.parametrize("found", PRIVATE_ANSWERS, ids=" ".join)
def test_a_name_is_refused_unless_every_address_is_public(found: list[str]) -> None:
    with pytest.raises(WebhookRefused) as refused:
        names(*found).admit("https://receiver.example/hook", "t")
    assert not any(address in refused.value.detail for address in found), "no map of the inside"


@pytest.mark.parametrize(
    ("url", "host", "authority"),
    [
        ("https://example.com", "example.com", "example.com"),
        ("HTTPS://Example.COM:443/Hook?a=B", "example.com", "example.com"),
        ("https://example.com:8443/hook", "example.com", "example.com:8443"),
        (f"https://{PUBLIC}/hook", PUBLIC, PUBLIC),
        ("https://[2606:4700::1111]:8443/", "2606:4700::1111", "[2606:4700::1111]:8443"),
        ("https://bücher.example/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("https://a_b.example/", "a_b.example", "a_b.example"),
        ("https://123.example/", "123.example", "123.example"),
        ("https://0x7f.example/", "0x7f.example", "0x7f.example"),
    ],
)
def test_an_ordinary_url_is_taken_apart(url: str, host: str, authority: str) -> None:
    target = names(PUBLIC).admit(url, "t")
    assert (target.host, target.authority) == (host, authority)
    assert parse_target(target.url) == target


def test_the_path_stays_as_it_is() -> None:
    target = parse_target("https://example.com/a%2Fb/../c?x=%20&y=1")
    assert target.path == "/a%2Fb/../c?x=%20&y=1"


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}/", f"https://example.com{text}"):
        try:
            target = parse_target(url)
        except WebhookRefused:
            continue
        assert parse_target(target.url) == target
        assert target.url.isascii() and " " not in target.url


@given(st.ip_addresses(v=4))
def test_agreement_with_the_standard_library_about_ipv4(address: object) -> None:
    try:
        UrlPolicy(Allowed(), never).target(f"https://{address}/")
    except WebhookRefused:
        return
    assert address.is_global and not address.is_multicast  # type: ignore[attr-defined]


def test_the_operator_may_allow_names_and_networks() -> None:
    allowed = Allowed.parse("127.0.0.0/8, fd00::/8, Receiver.internal, *.svc.local")
    policy = UrlPolicy(allowed, lambda host, port: ["10.0.0.7"])

    for url in (
        "http://127.0.0.1:80/",
        "http://[fd00::1]:9000/",
        "http://receiver.internal:25/x",
        "http://a.b.svc.local/",
    ):
        assert policy.admit(url, "t").url
    for url in (
        "https://10.0.0.7/",
        "https://other.internal/",
        "https://xreceiver.internal/",
        "https://svc.local/",
        "https://receiver.internal.evil.example/",
    ):
        with pytest.raises(WebhookRefused):
            policy.admit(url, "t")


def test_an_allowed_network_covers_names_that_resolve_into_it() -> None:
    policy = UrlPolicy(Allowed.parse("10.0.0.0/8"), lambda host, port: [PUBLIC, "10.0.0.7"])
    assert policy.admit("https://mixed.example/", "t")
    with pytest.raises(WebhookRefused, match="https"):
        policy.admit("http://mixed.example/", "t")


@pytest.mark.parametrize("value", ["10.0.0.0/33", "10.0.0.1/8", "a/b", "-x", "*", "1.2.3", "a b"])
def test_an_allow_list_that_means_nothing_is_refused(value: str) -> None:
    with pytest.raises(ValueError):
        Allowed.parse(f"ok.internal, {value}")


def test_a_name_that_does_not_exist_is_refused_in_the_same_words_as_a_private_one() -> None:
    def unknown(host: str, port: int) -> Sequence[str]:
        raise Unresolved(host, passing=False)

    with pytest.raises(WebhookRefused) as absent:
        UrlPolicy(Allowed(), unknown).admit("https://nowhere.example/", "t")
    with pytest.raises(WebhookRefused) as private:
        names("10.0.0.1").admit("https://inside.example/", "t")
    assert absent.value.detail == private.value.detail


def test_a_name_service_that_does_not_answer_refuses_nothing_and_holds_nobody() -> None:
    admitted, answered = threading.Event(), threading.Event()

    def silent(host: str, port: int) -> Sequence[str]:
        admitted.wait()
        answered.set()
        return ["10.0.0.1"]

    assert UrlPolicy(Allowed(), silent, seconds=0.05).admit("https://slow.example/", "t")
    assert not answered.is_set()
    admitted.set()
    assert answered.wait(PATIENCE)


def test_the_system_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(resolve_by_system("localhost", 80)) <= {"127.0.0.1", "::1"}
    for number, passing in ((socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)):

        def failing(*_: object, number: int = number, **__: object) -> None:
            raise socket.gaierror(number, "no")

        monkeypatch.setattr(socket, "getaddrinfo", failing)
        with pytest.raises(Unresolved) as failed:
            resolve_by_system("x.example", 443)
        assert failed.value.passing is passing


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://my_service.example.com/x", "my_service.example.com"),
        ("https://_hooks.a_.example/", "_hooks.a_.example"),
        ("https://bücher.my_service.example/", "xn--bcher-kva.my_service.example"),
        ("https://bücher。example/", "xn--bcher-kva.example"),
    ],
)
def test_an_underscore_in_a_host_is_no_fault(url: str, host: str) -> None:
    assert parse_target(url).host == host
