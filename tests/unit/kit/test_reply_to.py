"""Where e-mail is answered to, as the settings say it."""

import pytest

from services.kit.reply_to import parse_reply_to, reply_to_of


def test_a_sender_that_is_named_goes_before_the_rest() -> None:
    addresses = parse_reply_to("Desk@Example.com=Desk@IN.example.com *=mail@in.example.com")
    assert reply_to_of("Desk@example.com", addresses) == "Desk@in.example.com"
    assert reply_to_of("other@example.com", addresses) == "mail@in.example.com"
    assert reply_to_of("desk@example.com", parse_reply_to("a@example.com=b@example.com")) == ""
    assert parse_reply_to("") == {}


@pytest.mark.parametrize(
    "text",
    [
        "a@example.com",
        "a@example.com=",
        "*=b",
        "a=b@example.com",
        "*=<b@example.com>",
        "*=b@example.com,c@d.e",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is n"):
        parse_reply_to(text)
