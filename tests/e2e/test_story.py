"""The README's story: a message goes out, its reply comes back, the conversation shows both."""

from typing import Any

import pytest

from tests.e2e.stack import PROGRAM, E2eStack, eventually

pytestmark = pytest.mark.integration

OURS, CONTACT = "+15551234567", "+15559870001"


def _get(stack: E2eStack, path: str, **params: str) -> dict[str, Any]:
    response = stack.http.get(f"/api/v1{path}", params=params)
    assert response.status_code == 200, response.text
    content: dict[str, Any] = response.json()
    return content


def test_a_message_goes_out_and_its_reply_comes_back(stack: E2eStack) -> None:
    response = stack.http.post(
        "/api/v1/messages/send", json={"from": OURS, "to": CONTACT, "body": "Hello from Posthouse"}
    )
    assert response.status_code == 202, response.text
    sent = response.json()
    assert sent["status"] == "pending"

    eventually(
        lambda: _get(stack, f"/messages/{sent['id']}")["status"] == "delivered",
        what=f"{sent['id']} is delivered",
    )
    events = _get(stack, f"/messages/{sent['id']}/events")["events"]
    assert [event["type"] for event in events] == ["accepted", "sending", "sent", "delivered"]
    assert [event["sequence"] for event in events] == [1, 2, 3, 4]
    assert [event["created_at"] for event in events] == sorted(event["created_at"] for event in events)
    (attempt,) = _get(stack, f"/messages/{sent['id']}/attempts")["attempts"]
    assert (attempt["number"], attempt["outcome"]) == (1, "accepted")

    def conversations() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _get(stack, "/conversations", participant=CONTACT)["conversations"]
        return found

    eventually(lambda: conversations()[0]["message_count"] == 2, what="the reply is there")
    (conversation,) = conversations()
    assert conversation["id"] == sent["conversation_id"]
    assert set(conversation["participants"]) == {OURS, CONTACT}
    reply, message = _get(stack, f"/conversations/{conversation['id']}/messages")["messages"]
    assert (message["id"], message["direction"], message["status"]) == (sent["id"], "outbound", "delivered")
    assert (reply["direction"], reply["from"], reply["to"]) == ("inbound", CONTACT, OURS)
    assert reply["status"] == "received"
    assert stack.simulator.seen([sent["id"]]) == {sent["id"]: 1}


def test_the_readmes_own_numbers_are_taken(stack: E2eStack) -> None:
    body = {"from": "+15551234567", "to": "+15559876543", "body": "Hello from Posthouse"}
    response = stack.http.post("/api/v1/messages/send", json=body)
    assert response.status_code == 202, response.text


def test_a_repeat_under_the_same_key_gets_the_same_answer(stack: E2eStack) -> None:
    def send() -> Any:
        return stack.http.post(
            "/api/v1/messages/send",
            json={"from": OURS, "to": "+15559870012", "body": "Only once"},
            headers={"Idempotency-Key": "only-once"},
        )

    first, repeat = send(), send()
    assert first.status_code == repeat.status_code == 202
    assert first.json() == repeat.json()
    assert "idempotent-replayed" not in first.headers
    assert repeat.headers["idempotent-replayed"] == "true"
    rows = stack.rows("SELECT count(*) FROM messages WHERE body = 'Only once' AND direction = 'outbound'")
    assert rows == [(1,)]


def test_the_demo_succeeds(stack: E2eStack) -> None:
    result = stack.run(str(PROGRAM), "demo", "--data-dir", str(stack.data))
    assert result.returncode == 0, result.stdout + result.stderr
    for word in ("sms", "mms", "email", "delivered", "reply of"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("/health", "application/json", '"status":"ok"'),
        ("/ready", "application/json", '"ready":true'),
        ("/metrics", "text/plain", "posthouse_"),
        ("/api/v1/docs", "text/html", "<html"),
        ("/api/v1/openapi.json", "application/json", "/api/v1/messages/send"),
    ],
)
def test_the_gateway_answers(stack: E2eStack, path: str, kind: str, text: str) -> None:
    response = stack.http.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kind)
    assert text in response.text
