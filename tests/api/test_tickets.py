import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.tickets import LIFETIME, Tickets

JOB = "job_" + "1" * 32
OTHER = "job_" + "2" * 32


def test_a_ticket_admits_to_its_job_until_it_expires() -> None:
    tickets = Tickets("token")
    ticket = tickets.issue(JOB, now=1000.0)

    assert tickets.admits(ticket, JOB, now=1000.0)
    assert tickets.admits(ticket, JOB, now=1000.0 + LIFETIME - 1)
    assert not tickets.admits(ticket, JOB, now=1000.0 + LIFETIME)
    assert not tickets.admits(ticket, OTHER, now=1000.0)


def test_another_process_with_the_same_token_takes_it() -> None:
    ticket = Tickets("token").issue(JOB)

    assert Tickets("token").admits(ticket, JOB)
    assert not Tickets("another").admits(ticket, JOB)


@given(st.text(min_size=1, max_size=200))
def test_it_is_an_hmac_of_job_and_expiry(token: str) -> None:
    key = hmac.digest(token.encode(), b"truthgpt events ticket v1", hashlib.sha256)
    mac = hmac.digest(key, f"{JOB}.{1000 + LIFETIME}".encode(), hashlib.sha256)
    spelled = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

    assert Tickets(token).issue(JOB, now=1000.0) == f"{1000 + LIFETIME}.{spelled}"


def test_a_later_expiry_is_not_believed() -> None:
    tickets = Tickets("token")
    expiry, _, mac = tickets.issue(JOB, now=1000.0).partition(".")

    assert not tickets.admits(f"{int(expiry) + 1}.{mac}", JOB, now=1000.0)


@given(st.text(max_size=80))
def test_junk_is_no_ticket(junk: str) -> None:
    assert not Tickets("token").admits(junk, JOB)


@pytest.mark.parametrize("junk", ["", ".", "1.", "9" * 13 + "." + "A" * 43, "1." + "A" * 43])
def test_odd_tickets_are_no_tickets(junk: str) -> None:
    assert not Tickets("token").admits(junk, JOB)


def test_a_ticket_fits_into_a_url_as_it_is() -> None:
    ticket = Tickets("token").issue(JOB)

    assert set(ticket) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")
