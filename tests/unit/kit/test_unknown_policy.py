"""Who is sent again after an unknown outcome, as the settings say it."""

import pytest

from services.kit.unknown_policy import parse_unknown_policy


def test_the_channel_goes_before_the_provider_and_the_rest_is_held() -> None:
    policy = parse_unknown_policy("twilio=resend twilio/mms=hold smtp/email=resend")
    assert policy.resends("twilio", "sms")
    assert not policy.resends("twilio", "mms")
    assert policy.resends("smtp", "email")
    assert not policy.resends("smtp", "sms")
    assert not policy.resends("sendgrid", "email")


@pytest.mark.parametrize("text", ["twilio", "twilio=", "twilio=maybe", "/sms=hold", "twilio/=hold"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not of the form"):
        parse_unknown_policy(text)
