"""When a caller that does not want to wait is refused: only while a whole route is known to be failing."""

from datetime import UTC, datetime, timedelta

from posthouse.v1 import event_pb2 as event_pb
from services.kit.enum_names import CHANNEL
from services.kit.routes import parse_routes
from services.ledger.event_batches import make_timestamp
from services.message.route_health import RouteHealth

_ROUTES = parse_routes("sms=a,b sms[to=+44]=a email=a")


def _news(kind: str, provider: str, *, age: float = 0.0) -> event_pb.Event:
    time = make_timestamp(datetime.now(UTC) - timedelta(seconds=age))
    return event_pb.Event(type=kind, provider=provider, channel=CHANNEL.number("sms"), create_time=time)


def _seen(health: RouteHealth) -> list[bool]:
    places = (("sms", "+1"), ("sms", "+44"), ("email", ""))
    rules = [_ROUTES.find(channel, "+1", recipient) for channel, recipient in places]
    return [rule is not None and health.failing(rule) is not None for rule in rules]


def test_a_route_fails_when_all_its_providers_do() -> None:
    now = [100.0]
    health = RouteHealth(_ROUTES, cool_down=10.0, clock=lambda: now[0])
    assert _seen(health) == [False, False, False]
    health.hear(_news("opened", "a"))
    assert _seen(health) == [False, True, False]
    health.hear(_news("opened", "b", age=4.0))
    assert _seen(health) == [True, True, False]
    rule = _ROUTES.find("sms", "+1", "+1")
    assert rule is not None
    refusal = health.failing(rule)
    assert refusal is not None
    assert refusal.reason == "ROUTE_UNAVAILABLE"
    assert refusal.retry_after is not None
    assert 5.0 < refusal.retry_after <= 6.0
    health.hear(_news("half_open", "a"))
    assert _seen(health) == [False, False, False]
    health.hear(_news("opened", "a"))
    health.hear(_news("closed", "b"))
    assert _seen(health) == [False, True, False]


def test_what_is_not_heard_of_any_more_counts_as_unknown() -> None:
    now = [100.0]
    health = RouteHealth(_ROUTES, cool_down=10.0, clock=lambda: now[0])
    health.hear(_news("opened", "a"))
    now[0] += 10.5
    assert _seen(health) == [False, True, False]
    now[0] += 1.0
    assert _seen(health) == [False, False, False]
    health.hear(_news("opened", "a", age=3600.0))
    assert _seen(health) == [False, False, False]
