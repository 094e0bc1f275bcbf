"""One send: where it connects, what it looks at, and how every way to fail is told."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from shared.webhooks.lookups import Resolve, resolve_by_system
from shared.webhooks.policy import Allowed, UrlPolicy
from shared.webhooks.schedule import Sent
from tests.conftest import require
from tests.ports import free_port
from tests.receivers import (
    NameServer,
    Receiver,
    drip,
    flood,
    hang_up,
    nonsense,
    receiver,
    status,
)
from workers.webhooks.sender import Sender

HEADERS = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}
BODY = '{"text":"grün"}'.encode()


def send(
    url: str,
    *,
    allow: str = "127.0.0.1",
    resolve: Resolve = resolve_by_system,
    timeout: float = 5.0,
) -> Sent:
    return Sender(UrlPolicy(Allowed.parse(allow), resolve), timeout).send(url, BODY, HEADERS, "t")


def local(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def test_a_send_is_a_post_with_the_body_and_the_signature() -> None:
    with receiver() as there:
        sent = send(there.url + "?a=b%20c")

        assert (sent.status, sent.fault) == (204, "")
        assert 0 < sent.seconds < 5
        [got] = there.got
        assert (got.path, got.body) == ("/hook?a=b%20c", BODY)
        assert got.headers["host"] == f"127.0.0.1:{there.port}"
        assert got.headers["content-type"] == "application/json"
        assert got.headers.items() >= HEADERS.items()


def test_it_connects_to_the_checked_address_under_the_urls_name() -> None:
    with receiver() as there:
        url = f"http://receiver.internal:{there.port}/hook"
        sent = send(url, allow="receiver.internal", resolve=local)

        assert sent.status == 204
        assert there.got[0].headers["host"] == f"receiver.internal:{there.port}"


def test_a_name_that_changes_after_the_check_leads_nowhere_new() -> None:
    """The first answer is allowed and the second is not: the send goes to the first, or nowhere."""
    with receiver() as there:
        names = NameServer("127.0.0.1", "127.0.0.2")
        url = f"http://rebind.example:{there.port}/hook"
        policy = UrlPolicy(Allowed.parse("127.0.0.1, rebind.example"), names.resolve)

        assert Sender(policy, 5).send(url, BODY, HEADERS, "t").status == 204
        assert names.asked == ["rebind.example"], "resolved once a send"
        names.stop()


def test_a_name_that_turned_private_is_refused_at_the_send() -> None:
    with receiver() as there:
        names = NameServer("93.184.216.34", "127.0.0.1")
        policy = UrlPolicy(Allowed(), names.resolve)
        url = f"https://rebind.example:{there.port}/hook"

        policy.admit(url, "t")
        sent = Sender(policy, 5).send(url, BODY, HEADERS, "t")

        assert (sent.status, sent.fault) == (None, "address")
        assert names.asked == ["rebind.example"] * 2
        assert there.got == []
        names.stop()


def test_the_next_address_is_tried_when_one_is_dead() -> None:
    with receiver() as there:
        sent = send(
            f"http://two.internal:{there.port}/",
            allow="two.internal",
            resolve=lambda host, port: ["127.0.0.9", "127.0.0.1"],
        )
        assert sent.status == 204


def test_a_redirect_is_not_followed() -> None:
    with receiver() as inside, receiver(status(307, Location=inside.url)) as there:
        assert send(there.url).status == 307
        assert inside.got == []


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiver() as proxy, receiver() as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert send(there.url).status == 204
        assert proxy.got == [] and len(there.got) == 1


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://10.0.0.1/", "address"),
        ("https://127.0.0.2/", "address"),
        ("http://example.com/", "address"),
        ("https://user@127.0.0.1/", "address"),
    ],
)
def test_what_may_not_be_reached_is_not_reached(url: str, fault: str) -> None:
    assert send(url).fault == fault


def test_a_port_that_nobody_listens_on() -> None:
    assert send(f"http://127.0.0.1:{free_port()}/").fault == "connect"


def test_a_name_that_does_not_resolve() -> None:
    sent = send("https://nowhere.invalid/")
    assert (sent.status, sent.fault) == (None, "dns")


@pytest.mark.parametrize("reply", [hang_up, nonsense])
def test_what_is_not_http(reply: object) -> None:
    with receiver(reply) as there:  # type: ignore[arg-type]
        assert send(there.url).fault == "protocol"


def test_an_endless_answer_is_cut_off() -> None:
    with receiver(flood) as there:
        sent = send(there.url, timeout=30)
        assert sent.status == 200 and sent.seconds < 20


def test_a_receiver_that_hangs_costs_the_timeout_and_no_more() -> None:
    with receiver() as there:
        there.hanging.set()
        sent = send(there.url, timeout=0.3)
        assert sent.fault == "timeout" and sent.seconds >= 0.3


def test_a_receiver_that_drips_costs_the_timeout_and_no_more() -> None:
    with receiver(drip) as there:
        before = time.monotonic()
        assert send(there.url, timeout=0.5).fault == "timeout"
        assert time.monotonic() - before < 10, "the whole drip takes minutes"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("120", 120.0), ("soon", None), ("-1", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)],
)
def test_retry_after_is_read(value: str, expected: float | None) -> None:
    with receiver(status(503, Retry_After=value)) as there:
        sent = send(there.url)
        assert (sent.status, sent.retry_after) == (503, expected)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for receiver.internal, in one file."""
    require(shutil.which("openssl"), "openssl")
    folder = tmp_path_factory.mktemp("tls")
    # fmt: off
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2",
            "-subj", "/CN=receiver.internal", "-addext", "subjectAltName=DNS:receiver.internal",
        ],
        cwd=folder, check=True, capture_output=True,
    )
    # fmt: on
    whole = folder / "both.pem"
    whole.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return whole


@pytest.fixture
def names_asked_for() -> list[str | None]:
    return []


@pytest.fixture
def over_tls(certificate: Path, names_asked_for: list[str | None]) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _s, name, _c: names_asked_for.append(name)  # type: ignore[assignment]
    with receiver(tls=context) as there:
        yield there


def test_tls_asks_for_the_urls_name_and_checks_it(
    over_tls: Receiver,
    certificate: Path,
    names_asked_for: list[str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"https://receiver.internal:{over_tls.port}/hook"
    assert send(url, allow="receiver.internal", resolve=local).fault == "tls", "not trusted"

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sent = send(url, allow="receiver.internal", resolve=local)
    assert (sent.status, sent.fault) == (204, "")
    assert set(names_asked_for) == {"receiver.internal"}

    other = f"https://other.internal:{over_tls.port}/hook"
    assert send(other, allow="other.internal", resolve=local).fault == "tls", "another name"
    assert len(over_tls.got) == 1


def test_plain_http_behind_https_is_a_tls_fault() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sent = send(f"https://127.0.0.1:{listener.getsockname()[1]}/", timeout=0.3)
        assert sent.fault == "timeout", "nobody answers the handshake"
    with receiver() as there:
        assert send(there.url.replace("http:", "https:")).fault == "tls"
