"""Twilio's webhooks under fire: whatever comes in is refused, understood or named malformed."""

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.providers.base import MalformedWebhookError, WebhookContent, WebhookRequest
from services.providers.twilio import TwilioConfig, TwilioProvider
from tests.unit.message.drafts import check_draft
from tests.unit.providers.twilio_carrier import ACCOUNT, PUBLIC, TOKEN, WEBHOOK, form_request

PROVIDER = TwilioProvider(TwilioConfig(account_sid=ACCOUNT, auth_token=TOKEN, webhook_base_url=PUBLIC))

TEXT = st.text(max_size=40)
NAMES = st.sampled_from(
    ["MessageSid", "MessageStatus", "SmsStatus", "From", "To", "Body", "NumMedia", "MediaUrl0",
     "MediaContentType0", "ErrorCode", "ErrorMessage", "AccountSid"]
)  # fmt: skip
VALUES = TEXT | st.sampled_from(["SM1", "sent", "received", "1", "10", "https://x.example/a", "+15551234567"])
URLS = st.builds(
    "{}?{}={}&attempt={}".format,
    st.just(WEBHOOK) | TEXT,
    st.sampled_from(["message_id", "a", ""]),
    TEXT | st.uuids().map(str),
    st.integers() | TEXT,
)
FORMS = st.lists(st.tuples(NAMES | TEXT, VALUES), max_size=15).map(lambda pairs: urlencode(pairs).encode())
BODIES = (
    FORMS
    | st.binary(max_size=200)
    | st.dictionaries(NAMES, VALUES | st.integers() | st.none() | st.lists(TEXT), max_size=15).map(
        lambda fields: repr(fields).replace("'", '"').encode()
    )
)
REQUESTS = st.builds(
    WebhookRequest,
    st.just("POST"),
    URLS,
    st.fixed_dictionaries(
        {"content-type": st.sampled_from(["application/x-www-form-urlencoded", "application/json"]) | TEXT},
        optional={"x-twilio-signature": TEXT, "x-twilio-webhooks-signature-settings": TEXT},
    ),
    BODIES,
)


@given(REQUESTS)
def test_no_request_raises_anything_unexpected(request: WebhookRequest) -> None:
    assert PROVIDER.verify(request) is False
    try:
        content = PROVIDER.parse(request)
    except MalformedWebhookError:
        return
    check_stored(content)


@given(
    st.fixed_dictionaries(
        {"MessageSid": st.just("SM1"), "From": TEXT, "To": TEXT, "Body": TEXT, "NumMedia": st.just("0")},
        optional={"FromCity": TEXT, "OptOutType": TEXT, "ErrorMessage": TEXT},
    )
)
def test_a_contacts_words_come_through_as_they_were(fields: dict[str, str]) -> None:
    request = form_request(fields)
    assert PROVIDER.verify(request)
    if not (fields["From"] and fields["To"]):
        with pytest.raises(MalformedWebhookError):
            PROVIDER.parse(request)
        return
    (inbound,) = PROVIDER.parse(request).inbound
    assert (inbound.sender, inbound.recipient, inbound.body) == (
        fields["From"],
        fields["To"],
        fields["Body"],
    )


def check_stored(content: WebhookContent) -> None:
    """Check that what goes into columns without further cleaning fits them."""
    for receipt in content.receipts:
        texts = (receipt.event_key, receipt.provider_message_id, receipt.error_code, receipt.detail)
        assert all(text.isprintable() for text in texts)
        assert 0 <= receipt.attempt < 1 << 15
        assert len(receipt.detail) <= 500
    for inbound in content.inbound:
        check_draft(inbound)
        assert inbound.event_key.isprintable()
        assert len(inbound.metadata) <= 50
        assert all(len(value) <= 500 for value in inbound.metadata.values())
        assert all(str(item["url"]).startswith("http") for item in inbound.attachments)
