"""One reading of REDIS_URL, for the job store and for the broker."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import quote

import certifi
import pytest
from kombu.utils.url import url_to_parts

from shared.broker import celery_broker_url, make_celery
from shared.domain.errors import ConfigError
from shared.redis.address import RedisAddress, with_ca_file
from shared.redis.connection import connect
from shared.settings import load_settings

HARD = "p@ss/w#rd?100%[x]:+ &;é"


def kwargs_of_the_store(url: str) -> dict[str, Any]:
    found: dict[str, Any] = connect(url, 1.0).connection_pool.connection_kwargs
    return found


def kwargs_of_the_broker(url: str) -> dict[str, Any]:
    """What kombu would connect with; it connects to nothing until a channel is opened."""
    app = make_celery(load_settings(REDIS_URL=url))
    connection = app.connection_for_write()
    transport = connection.get_transport_cls()(client=connection)
    channel = object.__new__(transport.Channel)
    channel.connection = transport
    for name, value in connection.transport_options.items():
        setattr(channel, name, value)
    found: dict[str, Any] = channel._connparams()
    return found


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", {"host": "localhost", "port": 6379, "db": 0}),
        ("redis://a", {"host": "a", "port": 6379, "db": 0}),
        ("redis://a:7/3", {"host": "a", "port": 7, "db": 3}),
        ("redis://a:7?db=4", {"host": "a", "port": 7, "db": 4}),
        ("redis://[::1]:7/1", {"host": "::1", "port": 7, "db": 1}),
        ("redis://app@a/0", {"host": "a", "username": "app"}),
        ("redis://:pw@a/0", {"host": "a", "password": "pw"}),
        (f"redis://app:{quote(HARD, safe='')}@a/0", {"username": "app", "password": HARD}),
        ("unix:///run/r.sock", {"path": "/run/r.sock", "db": 0}),
        ("unix://:pw@/run/r.sock?db=2", {"path": "/run/r.sock", "db": 2, "password": "pw"}),
        ("unix:///run/r.sock?password=pw", {"path": "/run/r.sock", "password": "pw"}),
        (f"unix://{quote('/a b/%41/ü;?#.sock')}", {"path": "/a b/%41/ü;?#.sock"}),
        ("rediss://a:7/0", {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}),
        ("rediss://a:7/0?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
        ("rediss://a:7/0?ssl_cert_reqs=CERT_REQUIRED", {"ssl_cert_reqs": ssl.CERT_REQUIRED}),
        ("rediss://a:7/0?ssl_check_hostname=false", {"ssl_check_hostname": False}),
        ("rediss://a:7/0?ssl_ca_certs=/dev/null", {"ssl_ca_certs": "/dev/null"}),
        (
            "rediss://a:7/0?ssl_certfile=/dev/null&ssl_keyfile=/dev/null",
            {"ssl_certfile": "/dev/null", "ssl_keyfile": "/dev/null"},
        ),
        ("redis://a/0?client_name=us", {"client_name": "us"}),
    ],
)
def test_store_and_broker_connect_alike(url: str, expected: dict[str, Any]) -> None:
    for found in (kwargs_of_the_store(url), kwargs_of_the_broker(url)):
        assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_protocol_is_for_the_store_and_does_no_harm_to_the_broker(protocol: int) -> None:
    url = f"redis://a:7/1?protocol={protocol}"
    assert kwargs_of_the_store(url)["protocol"] == protocol
    assert kwargs_of_the_broker(url)["port"] == 7


def test_sentinels_get_their_own_login_and_tls_and_the_servers_theirs() -> None:
    url = "sentinels://app:p%40ss@a:1,[::1]:2/main/3?sentinel_password=s&ssl_cert_reqs=none"
    store = connect(url, 1.0).connection_pool
    assert store.connection_kwargs["username"] == "app"
    assert store.connection_kwargs["password"] == "p@ss"
    assert store.connection_kwargs["db"] == 3
    assert store.connection_kwargs["ssl_cert_reqs"] is ssl.CERT_NONE
    sentinels = [
        node.connection_pool.connection_kwargs for node in store.sentinel_manager.sentinels
    ]  # type: ignore[attr-defined]
    assert [(one["host"], one["port"]) for one in sentinels] == [("a", 1), ("::1", 2)]
    assert all(one["password"] == "s" and one.get("username") is None for one in sentinels)
    assert all(one["ssl_cert_reqs"] is ssl.CERT_NONE for one in sentinels)

    conf = make_celery(load_settings(REDIS_URL=url)).conf
    assert conf.broker_use_ssl["ssl_cert_reqs"] is ssl.CERT_NONE
    assert conf.broker_transport_options["master_name"] == "main"
    own = conf.broker_transport_options["sentinel_kwargs"]
    assert own["password"] == "s" and own["ssl"] is True
    nodes = [url_to_parts(one) for one in celery_broker_url(url).split(";")]
    assert [(one.hostname, one.port, one.password) for one in nodes] == [
        ("a", 1, "p@ss"),
        ("::1", 2, "p@ss"),
    ]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a", "redis://"),
        ("a:6379", "begins with one of"),
        ("redis://:p@ss/w0rd@a:6379/0", "percent-encoded"),
        ("redis://:pass#word@a:6379/0", "percent-encoded"),
        ("redis://:pass?word@a:6379/0", "percent-encoded"),
        ("redis://a:port/0", "percent-encoded"),
        ("redis://a:66666/0", "host and port"),
        ("redis://a/zero", "a database is a number"),
        ("redis://a,b/0", "sentinel://"),
        ("unix://run/redis.sock", "path of a socket"),
        ("sentinel://a:1", "SERVICE"),
        ("redis://a/0?protocol=4", "protocol is one of 2, 3"),
        ("redis://a/0?socket_timeout=5", "REDIS_TIMEOUT_SEC"),
        ("redis://a/0?decode_responses=true", "no parameter"),
        ("redis://a/0?health_check_interval=soon", "seconds"),
        ("redis://a/0?ssl_cert_reqs=none", "rediss://"),
        ("rediss://a/0?ssl_cert_reqs=maybe", "none, optional, required"),
        ("rediss://a/0?ssl_ca_certs=/not/there.pem", "there is no /not/there.pem"),
        ("redis://a/0?sentinel_password=s", "sentinel://"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name_without_the_secret(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"REDIS_URL: .*({said})") as refused:
        load_settings(REDIS_URL=url)
    for secret in ("w0rd", "pass", "word@"):
        assert secret not in refused.value.detail.replace("password", "").replace("passes", "")


def test_a_ca_file_of_the_settings_is_for_encrypted_urls_that_name_none(tmp_path: Path) -> None:
    file = tmp_path / "ca & more.pem"
    file.write_bytes(Path(certifi.where()).read_bytes())
    settings = load_settings(REDIS_URL="rediss://a/0", REDIS_CA_FILE=file)
    assert RedisAddress.parse(settings.require_redis()).tls == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_check_hostname": True,
        "ssl_ca_certs": str(file),
    }
    for url in ("redis://a/0", "unix:///r", "rediss://a/0?ssl_ca_certs=/dev/null"):
        assert with_ca_file(url, file) == url


def test_a_ca_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    for file in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(ConfigError, match="REDIS_CA_FILE"):
            load_settings(REDIS_URL="rediss://a/0", REDIS_CA_FILE=file)


def test_what_people_see_of_it_lets_nobody_in() -> None:
    for url, shown in (
        ("rediss://app:secret@[::1]:7/1", "rediss://[::1]:7/1"),
        ("unix://:secret@/run/r.sock", "unix:///run/r.sock"),
        ("sentinel://:secret@a:1,b/main/0", "sentinel://a:1,b:26379/main/0"),
    ):
        assert str(RedisAddress.parse(url)) == shown
        assert "secret" not in repr(RedisAddress.parse(url))
