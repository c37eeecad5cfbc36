"""Routes as the settings write them: which one a message takes, in what order, and what is refused."""

import re
from collections import Counter

import pytest

from services.kit.routes import Choice, parse_routes

_TEXT = (
    "sms=twilio,simulator sms[to=+44]=uk,twilio sms[to=+4479]=jersey "
    "sms[from=+15550001111]=own sms[to=+44,from=+15550001111]=both email[from=x=y@z.org]=smtp"
)


@pytest.mark.parametrize(
    ("sender", "recipient", "name"),
    [
        ("+15550002222", "+15559876543", "sms"),
        ("+15550002222", "+447911123456", "sms[to=+4479]"),
        ("+15550002222", "+441481960194", "sms[to=+44]"),
        ("+15550001111", "+15559876543", "sms[from=+15550001111]"),
        ("+15550001111", "+447911123456", "sms[to=+44,from=+15550001111]"),
    ],
)
def test_the_most_particular_route_is_taken(sender: str, recipient: str, name: str) -> None:
    rule = parse_routes(_TEXT).find("sms", sender, recipient)
    assert rule is not None
    assert rule.name == name


def test_without_a_general_route_some_messages_have_none() -> None:
    routes = parse_routes(_TEXT)
    assert routes.find("email", "a@z.org", "b@z.org") is None
    assert routes.find("email", "x=y@z.org", "b@z.org") is not None
    assert routes.find("voice", "+15550002222", "+15559876543") is None


def test_a_channel_has_the_providers_of_all_its_routes_the_general_ones_first() -> None:
    assert parse_routes(_TEXT).providers == {
        "sms": ["twilio", "simulator", "uk", "jersey", "own", "both"],
        "email": ["smtp"],
    }


def test_only_a_lone_general_route_without_shares_is_the_same_for_all() -> None:
    routes = parse_routes("sms=a,b email=a|b voice[to=+44]=a mms=a mms[to=+1]=b")
    rule = routes.only("sms")
    assert rule is not None
    assert rule.order("any") == [Choice("a", 1), Choice("b", 2)]
    assert [routes.only(channel) for channel in ("email", "voice", "mms", "fax")] == [None] * 4


def test_a_place_is_shared_by_weight_and_each_message_keeps_its_order() -> None:
    rule = parse_routes("sms=a:3|b:1,c").find("sms", "x", "y")
    assert rule is not None
    keys = [f"message {number}" for number in range(4000)]
    first = Counter(rule.order(key)[0].provider for key in keys)
    assert 2800 < first["a"] < 3200
    assert first["a"] + first["b"] == 4000
    for key in keys[:50]:
        order = rule.order(key)
        assert order == rule.order(key)
        assert {choice.provider for choice in order[:2]} == {"a", "b"}
        assert order[2] == Choice("c", 2)
        assert {(choice.provider, choice.share) for choice in order[:2]} == {("a", "3/4"), ("b", "1/4")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sms", "'sms' is not of the form"),
        ("sms=", "'sms=' is not of the form"),
        ("sms=,", "'sms=,' is not of the form"),
        ("=twilio", "'=twilio' is not of the form"),
        ("sms[to=44]=a", "to must be + and the first digits"),
        ("email[to=+44]=a", "to must be + and the first digits"),
        ("sms[]=a", "conditions are to=+prefix and from=sender"),
        ("sms[to=+44,to=+1]=a", "conditions are to=+prefix and from=sender"),
        ("sms[by=+44]=a", "conditions are to=+prefix and from=sender"),
        ("sms=a:0", "the weight of a must be"),
        ("sms=a:x|b", "the weight of a must be"),
        ("sms=|b", "a provider has no name"),
        ("sms=a,a", "a provider is named twice"),
        ("sms=a sms=b", "there is another route for sms"),
        ("sms[to=+44]=a sms[to=+44]=b", "there is another route for sms[to=+44]"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_routes(text)
