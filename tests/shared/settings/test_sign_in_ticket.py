from shared.settings.sign_in_ticket import LIFETIME, issue_ticket, nonce_of

TOKEN = "a-token-for-tests-only"


def test_a_ticket_is_good_for_a_while_at_the_server_that_has_the_token() -> None:
    ticket = issue_ticket(TOKEN, now=1000.0)

    assert nonce_of(TOKEN, ticket, now=1000.0 + LIFETIME - 1) == ticket.split(".")[1]
    assert nonce_of(TOKEN, ticket, now=1000.0 + LIFETIME) is None
    assert nonce_of("another-token-for-tests", ticket, now=1000.0) is None


def test_what_was_changed_is_no_ticket() -> None:
    ticket = issue_ticket(TOKEN, now=1000.0)
    expiry, nonce, mac = ticket.split(".")

    for other in (
        "",
        "x",
        f"9{expiry}.{nonce}.{mac}",
        f"{expiry}.{nonce[::-1]}.{mac}",
        ticket + "\n",
    ):
        assert nonce_of(TOKEN, other, now=1000.0) is None
    assert issue_ticket(TOKEN) != issue_ticket(TOKEN)
