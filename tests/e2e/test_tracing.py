"""One trace covers the path of a message, from the request to the receipt, as a collector of OTLP gets it."""

import secrets
from collections.abc import Iterator

import pytest

from tests.e2e.collector import Collector, Exported, running_collector
from tests.e2e.stack import E2eStack, eventually, running_stack

pytestmark = pytest.mark.integration

_SEND = {"from": "+15551234567", "to": "+15559870021", "body": "A secret body"}

# (process, span, process and name of its parent)
_PATH = {
    ("gateway", "POST /api/v1/messages/send"): None,
    ("gateway", "send batch"): ("gateway", "POST /api/v1/messages/send"),
    ("gateway", "/posthouse.v1.MessageService/SendMessages"): ("gateway", "send batch"),
    ("message", "/posthouse.v1.MessageService/SendMessages"): (
        "gateway",
        "/posthouse.v1.MessageService/SendMessages",
    ),
    ("message", "publish"): ("gateway", "POST /api/v1/messages/send"),
    ("dispatch", "dispatch"): ("message", "publish"),
    ("dispatch", "provider send"): ("dispatch", "dispatch"),
    ("dispatch", "attempt"): ("gateway", "POST /api/v1/messages/send"),
    ("message", "receipt"): ("gateway", "POST /api/v1/messages/send"),
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


@pytest.fixture(scope="module")
def traced_stack(collector: Collector) -> Iterator[E2eStack]:
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running_stack(settings) as running:
        yield running


def _traceparent(sampled: str = "01") -> tuple[str, str]:
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{secrets.token_hex(8)}-{sampled}"


def _send(stack: E2eStack, traceparent: str) -> str:
    response = stack.http.post("/api/v1/messages/send", json=_SEND, headers={"traceparent": traceparent})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def _named(spans: list[Exported]) -> dict[tuple[str, str], Exported]:
    return {(span.process, span.name): span for span in spans}


def test_one_trace_covers_the_path(traced_stack: E2eStack, collector: Collector) -> None:
    trace, traceparent = _traceparent()
    message_id = _send(traced_stack, traceparent)
    eventually(
        lambda: _PATH.keys() <= _named(collector.of(trace)).keys(),
        what="the trace has every span of the path",
    )
    found = _named(collector.of(trace))
    for place, parent in _PATH.items():
        expected = traceparent.split("-")[2] if parent is None else found[parent].id
        assert found[place].parent == expected, place
    attempt, receipt = found["dispatch", "attempt"], found["message", "receipt"]
    assert attempt.attributes["posthouse.message_id"] == message_id
    assert attempt.attributes["posthouse.outcome"] == "accepted"
    assert receipt.attributes["posthouse.state"] == "delivered"
    # The webhook that brought the receipt is another request, and has a trace of its own.
    assert receipt.links
    assert trace not in receipt.links


def test_messages_of_a_batch_are_traced_with_it(traced_stack: E2eStack, collector: Collector) -> None:
    trace, traceparent = _traceparent()
    messages = [{**_SEND, "to": f"+1555987003{n}"} for n in range(3)]
    response = traced_stack.http.post(
        "/api/v1/messages/batch", json={"messages": messages}, headers={"traceparent": traceparent}
    )
    ids = {result["message"]["id"] for result in response.json()["results"]}

    def attempted() -> set[str]:
        spans = collector.of(trace)
        return {span.attributes["posthouse.message_id"] for span in spans if span.name == "attempt"}

    eventually(lambda: attempted() == ids, what="each message has its attempt in the trace")


def test_what_the_caller_does_not_trace_is_not_traced(traced_stack: E2eStack, collector: Collector) -> None:
    untraced, quiet = _traceparent("00")
    _send(traced_stack, quiet)
    trace, traceparent = _traceparent()
    _send(traced_stack, traceparent)
    eventually(
        lambda: ("message", "receipt") in _named(collector.of(trace)), what="the one after it has its receipt"
    )
    assert not collector.of(untraced)


def test_spans_tell_no_address_and_no_body(traced_stack: E2eStack, collector: Collector) -> None:
    trace, traceparent = _traceparent()
    traced_stack.http.get("/conversations/+15559870021", headers={"traceparent": traceparent})
    traced_stack.http.post(
        "/api/v1/messages/send",
        json={**_SEND, "from": "5559870021 nobody"},
        headers={"traceparent": traceparent},
    )
    # Processes export on their own: a count says nothing of whose spans have come.
    expected = {
        ("gateway", "GET /conversations/{phone_number}"),
        ("conversation", "/posthouse.v1.ConversationService/LookupConversation"),
        ("gateway", "POST /api/v1/messages/send"),
        ("message", "/posthouse.v1.MessageService/SendMessages"),
    }
    eventually(lambda: expected <= _named(collector.of(trace)).keys(), what="the spans have come")
    text = repr(collector.spans)
    assert "5559870021" not in text
    assert "secret body" not in text
