"""What Twilio's webhooks say: every status, our ids, errors, and what is kept of a contact's message."""

import pytest

from services.ledger.states import REPORTABLE
from services.providers.base import Inbound, MalformedWebhookError, Receipt, WebhookRequest
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.unit.providers.twilio_carrier import ACCOUNT, PUBLIC, SENDER, TOKEN, WEBHOOK, form_request

PROVIDER = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=PUBLIC))
MESSAGE_ID = "01927c3e-7b4a-7cc0-8000-3a5b8c2d1e0f"
INBOUND = {"MessageSid": "SM1", "From": "+15559876543", "To": SENDER, "Body": "Hi", "NumMedia": "0"}


def receipt(fields: dict[str, str], query: str = f"?message_id={MESSAGE_ID}&attempt=1") -> Receipt:
    request = form_request({"MessageSid": "SM1", "To": "+15559876543", **fields}, url=WEBHOOK + query)
    assert PROVIDER.verify(request)
    content = PROVIDER.parse(request)
    assert not content.inbound
    return content.receipts[0]


def inbound(fields: dict[str, str]) -> Inbound:
    content = PROVIDER.parse(form_request(INBOUND | fields))
    assert not content.receipts
    return content.inbound[0]


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("accepted", ""),
        ("scheduled", ""),
        ("queued", ""),
        ("sending", ""),
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("undelivered", "undelivered"),
        ("failed", "undelivered"),
        ("read", "read"),
        ("canceled", "undelivered"),
        ("partially_delivered", ""),
        ("receiving", ""),
        ("received", ""),
    ],
)
def test_every_status_has_its_state(status: str, state: str) -> None:
    news = receipt({"MessageStatus": status})
    assert (news.state, news.event_key) == (state, f"SM1:{status}")
    assert (news.message_id, news.attempt, news.provider_message_id) == (MESSAGE_ID, 1, "SM1")
    assert state in ("", *REPORTABLE)
    # What the state does not say is in the text.
    assert news.detail == ("" if status == state else status)


def test_a_status_nobody_knows_is_named() -> None:
    with pytest.raises(MalformedWebhookError, match="MessageStatus"):
        receipt({"MessageStatus": "a_status_to_come"})


def test_old_callbacks_have_their_status_under_another_name() -> None:
    assert receipt({"SmsStatus": "delivered"}).state == "delivered"


def test_capitals_make_no_other_news() -> None:
    assert receipt({"MessageStatus": "Delivered"}).event_key == "SM1:delivered"


def test_an_error_keeps_its_code_and_text() -> None:
    news = receipt({"MessageStatus": "failed", "ErrorCode": "30007", "ErrorMessage": "Filtered\0\nby X"})
    assert (news.error_code, news.detail) == ("30007", "Filtered  by X")
    assert receipt({"MessageStatus": "failed", "ErrorCode": "30007"}).detail == "message filtered"
    assert receipt({"MessageStatus": "sent", "ErrorCode": "0"}).error_code == ""


def test_a_callback_without_our_ids_is_placed_by_its_sid() -> None:
    news = receipt({"MessageStatus": "sent"}, query="")
    assert (news.message_id, news.attempt, news.provider_message_id) == ("", 0, "SM1")


@pytest.mark.parametrize("attempt", ["0", "-1", "1x", "", "32768", "1&attempt=1", "²"])
def test_an_attempt_that_is_none_is_named(attempt: str) -> None:
    with pytest.raises(MalformedWebhookError, match=r"^attempt of the URL"):
        receipt({"MessageStatus": "sent"}, query=f"?message_id={MESSAGE_ID}&attempt={attempt}")


def test_a_messages_other_parameters_are_kept_within_bounds() -> None:
    fields = {f"New{number:03d}": "v" for number in range(100)} | {"ALong": "x" * 501, "Empty": ""}
    kept = inbound({"OptOutType": "STOP", "FromCity": "SÃO PAULO", "SmsStatus": "received"}).metadata
    assert kept == {"OptOutType": "STOP", "FromCity": "SÃO PAULO"}
    assert inbound(fields).metadata == {f"New{number:03d}": "v" for number in range(50)}


def test_media_are_notes_of_where_they_are() -> None:
    message = inbound(
        {"NumMedia": "1", "Body": "", "MediaUrl0": "https://x.example/0", "MediaContentType0": "image/gif"}
    )
    assert message.channel == "mms"
    assert message.attachments == [
        {"url": "https://x.example/0", "content_type": "image/gif", "filename": ""}
    ]
    assert message.metadata == {}


def test_the_number_of_media_may_be_missing() -> None:
    request = form_request({name: value for name, value in INBOUND.items() if name != "NumMedia"})
    assert PROVIDER.parse(request).inbound[0].channel == "sms"


@pytest.mark.parametrize("count", ["51", "x", "1.0", "1e1", "٣"])
def test_a_number_of_media_that_is_none_is_named(count: str) -> None:
    with pytest.raises(MalformedWebhookError, match=r"^NumMedia is not"):
        inbound({"NumMedia": count, "MediaUrl0": "https://x.example/0"})


def test_a_url_that_cannot_be_signed_is_not_genuine() -> None:
    headers = {"x-twilio-signature": "AAAA"}
    assert not PROVIDER.verify(WebhookRequest("POST", f"{WEBHOOK}?\udcff", headers, b"MessageSid=SM1"))
