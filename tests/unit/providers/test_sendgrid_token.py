"""SendGrid's Inbound Parse: the token of its address, and nothing else, is the proof."""

import random

import pytest

from services.providers.sendgrid import SendGridConfig, SendGridProvider
from tests.unit.providers.sendgrid_requests import TOKEN, TOKEN_URL, URL, form, mail, public_key

PROVIDER = SendGridProvider(SendGridConfig("key", public_key=public_key(), inbound_token=TOKEN))


def test_the_token_of_the_url_is_the_proof() -> None:
    assert PROVIDER.verify(form(mail()))
    assert PROVIDER.verify(form(mail(), url=f"{URL}?a=b&token=token%2Bof%2Fthe%20tests&c=d"))


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}?token=",
        f"{URL}?token=wrong",
        f"{TOKEN_URL}x",
        TOKEN_URL[:-1],
        f"{URL}?Token=token%2Bof%2Fthe+tests",
        f"{URL}#token=token%2Bof%2Fthe+tests",
        f"{TOKEN_URL}&token=wrong",
        f"{TOKEN_URL}&token=token%2Bof%2Fthe+tests",
        f"{URL}?token=token+of/the+tests",
        f"{URL}?token=%ff\udcff",
        "http://[",
        "",
    ],
)
def test_any_other_token_is_forged(url: str) -> None:
    assert not PROVIDER.verify(form(mail(), url=url))


def test_no_mutation_of_the_token_is_accepted() -> None:
    draw = random.Random(3)  # noqa: S311 - seeded
    token = "4f9d1c07b2e84a55a0c3"
    provider = SendGridProvider(SendGridConfig("key", inbound_token=token))
    assert provider.verify(form(mail(), url=f"{URL}?token={token}"))
    for _ in range(2000):
        place = draw.randrange(len(token))
        mutant = token[:place] + draw.choice("0123456789abcdefABCDEF%+") + token[place + draw.randrange(2) :]
        if mutant != token:
            assert not provider.verify(form(mail(), url=f"{URL}?token={mutant}")), mutant


def test_without_a_token_configured_nothing_is_genuine() -> None:
    provider = SendGridProvider(SendGridConfig("key", public_key=public_key()))
    assert not provider.verify(form(mail(), url=f"{URL}?token="))
    assert not provider.verify(form(mail()))
