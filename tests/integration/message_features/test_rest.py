"""The features of messages as REST callers see them, through the real gateway."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from gateway import answers, opt_out_shapes
from gateway.__main__ import main
from tests.integration.dispatch.house import House
from tests.integration.ledger.rows import CONTACT, OURS, eventually

from .conftest import Contact

pytestmark = pytest.mark.integration

SEND = {"from": OURS, "to": CONTACT, "body": "hello"}
MESSAGES, OPT_OUTS = "/api/v1/messages", "/api/v1/opt-outs"


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    stop = asyncio.Event()
    process = asyncio.create_task(main(house.settings, stop))
    url = f"http://127.0.0.1:{house.settings.http_port}"
    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def answers_calls() -> bool:
            if process.done():
                process.result()
            try:
                return (await client.get(f"{MESSAGES}?page_size=1")).status_code == 200
            except httpx2.TransportError:
                return False

        await eventually(answers_calls)
        yield client
    stop.set()
    await asyncio.wait_for(process, 60)


def rfc3339(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


async def test_a_send_to_who_has_opted_out_is_422(client: httpx2.AsyncClient, contact: Contact) -> None:
    await contact.says("STOP")
    response = await client.post(f"{MESSAGES}/send", json=SEND)
    assert response.status_code == 422
    problem = answers.Problem.model_validate(response.json())
    assert (problem.reason, problem.type) == ("OPTED_OUT", "urn:posthouse:problem:opted-out")
    assert [error.field for error in problem.errors] == ["to"]

    other = {**SEND, "to": "+15557654321"}
    response = await client.post(f"{MESSAGES}/batch", json={"messages": [SEND, other]})
    refused, accepted = response.json()["results"]
    assert (refused["status"], accepted["status"]) == (422, 202)
    assert refused["error"]["errors"][0]["field"] == "messages[0].to"

    await contact.says("START")
    assert (await client.post(f"{MESSAGES}/send", json=SEND)).status_code == 202


async def test_opt_outs_by_rest(client: httpx2.AsyncClient) -> None:
    pair = {"from": OURS, "to": CONTACT}
    response = await client.post(OPT_OUTS, json={**pair, "reason": "asked on the phone"})
    assert response.status_code == 201
    added = response.json()
    opt_out_shapes.OptOut.model_validate(added)
    assert (added["to"], added["source"], added["reason"]) == (CONTACT, "api", "asked on the phone")
    response = await client.post(OPT_OUTS, json=pair)
    assert (response.status_code, response.json()) == (200, added)
    assert (await client.post(f"{MESSAGES}/send", json=SEND)).status_code == 422

    listed = (await client.get(OPT_OUTS, params=pair)).json()
    opt_out_shapes.OptOuts.model_validate(listed)
    assert listed == {"opt_outs": [added], "next_page_token": None}
    # A + that nobody has encoded reads as a space.
    assert (await client.get(f"{OPT_OUTS}?to={CONTACT}")).json() == listed
    assert (await client.get(f"{OPT_OUTS}?to=%2B15550000000")).json()["opt_outs"] == []
    assert (await client.get(f"{OPT_OUTS}?channel_family=email")).json()["opt_outs"] == []

    response = await client.delete(OPT_OUTS, params={**pair, "reason": "called again"})
    assert (response.status_code, response.json()) == (200, {"removed": True})
    assert (await client.delete(f"{OPT_OUTS}?from={OURS}&to={CONTACT}")).json() == {"removed": False}
    assert (await client.post(f"{MESSAGES}/send", json=SEND)).status_code == 202

    history = (await client.get(f"{OPT_OUTS}/history", params={"to": CONTACT})).json()
    opt_out_shapes.ConsentEvents.model_validate(history)
    assert [(event["change"], event["effective"]) for event in reversed(history["events"])] == [
        ("opted_out", True),
        ("opted_out", False),
        ("opted_in", True),
        ("opted_in", False),
    ]


@pytest.mark.parametrize(
    ("method", "params", "body", "fields"),
    [
        ("POST", {}, {"from": OURS}, ["to"]),
        ("POST", {}, {"from": OURS, "to": "nobody"}, ["to"]),
        ("POST", {}, {"from": OURS, "to": CONTACT, "more": 1}, ["more"]),
        ("DELETE", {"from": OURS}, None, ["to"]),
        ("DELETE", {"from": OURS, "to": "a@example.com"}, None, ["to"]),
        ("GET", {"channel_family": "fax"}, None, ["channel_family"]),
        ("GET", {"page_token": "x"}, None, ["page_token"]),
    ],
)
async def test_bad_requests(
    client: httpx2.AsyncClient, method: str, params: dict[str, str], body: Any, fields: list[str]
) -> None:
    response = await client.request(method, OPT_OUTS, params=params, json=body)
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == fields


async def test_preview_by_rest(client: httpx2.AsyncClient, contact: Contact) -> None:
    await contact.says("STOP")
    asked = {**SEND, "to": "+1 555 987 6543", "body": "ünïcode", "subject": "no"}
    response = await client.post(f"{MESSAGES}/preview", json=asked)
    assert response.status_code == 200
    shown = response.json()
    answers.Preview.model_validate(shown)
    assert {name: value for name, value in shown.items() if name != "refusals"} == {
        "sender_kept": False,
        "sender_pool": None,
        "acceptable": False,
        "type": "sms",
        "from": OURS,
        "to": CONTACT,
        "conversation_id": shown["conversation_id"],
        "conversation_exists": True,
        "segments": 1,
        "encoding": "ucs2",
        "characters": 7,
        "ucs2_characters": ["ï"],
        "route": ["scripted"],
        "rate_limit": None,
    }
    assert [(refusal["status"], refusal["reason"]) for refusal in shown["refusals"]] == [
        (400, "INVALID_FIELD"),
        (422, "OPTED_OUT"),
    ]
    assert [refusal["errors"][0]["field"] for refusal in shown["refusals"]] == ["subject", "to"]


async def test_a_preview_knows_whether_the_key_was_used(client: httpx2.AsyncClient) -> None:
    keyed = {"Idempotency-Key": "order-18"}
    assert (await client.post(f"{MESSAGES}/send", json=SEND, headers=keyed)).status_code == 202
    other = {**SEND, "body": "another"}
    shown = (await client.post(f"{MESSAGES}/preview", json=other, headers=keyed)).json()
    (refusal,) = shown["refusals"]
    assert (shown["acceptable"], refusal["status"], refusal["reason"]) == (
        False,
        422,
        "IDEMPOTENCY_KEY_REUSED",
    )
    assert refusal["errors"][0]["field"] == "Idempotency-Key"
    assert "'order-18'" in refusal["detail"]
    assert (await client.post(f"{MESSAGES}/preview", json=SEND, headers=keyed)).json()["acceptable"]
    assert (await client.post(f"{MESSAGES}/preview", json=other)).json()["acceptable"]
    refused = await client.post(f"{MESSAGES}/send", json=other, headers=keyed)
    assert (refused.status_code, "'order-18'" in refused.json()["detail"]) == (422, True)


async def test_a_key_is_named_without_the_addresses_in_it(client: httpx2.AsyncClient) -> None:
    keyed = {"Idempotency-Key": "order:+15558675309"}
    assert (await client.post(f"{MESSAGES}/send", json=SEND, headers=keyed)).status_code == 202
    refused = await client.post(f"{MESSAGES}/send", json={**SEND, "body": "another"}, headers=keyed)
    assert refused.status_code == 422
    assert "'order:+1*****5309'" in refused.json()["detail"]
    assert "8675309" not in refused.text


async def test_send_at_and_expires_at(client: httpx2.AsyncClient, house: House) -> None:
    now = datetime.now(UTC)
    send_at, expires_at = rfc3339(now + timedelta(hours=1)), rfc3339(now + timedelta(hours=2))
    body = {**SEND, "send_at": send_at, "expires_at": expires_at}
    response = await client.post(f"{MESSAGES}/send", json=body)
    assert response.status_code == 202
    accepted = response.json()
    assert (accepted["status"], accepted["send_at"]) == ("scheduled", send_at)
    message = (await client.get(f"{MESSAGES}/{accepted['id']}")).json()
    assert (message["send_at"], message["expires_at"]) == (send_at, expires_at)
    assert message["next_attempt_at"] == send_at
    response = await client.post(f"{MESSAGES}/{accepted['id']}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert response.json()["next_attempt_at"] is None

    offset = (now + timedelta(seconds=1)).astimezone().isoformat()
    accepted = (await client.post(f"{MESSAGES}/send", json={**SEND, "send_at": offset})).json()
    await house.dispatch()
    await house.until("sent", accepted["id"])
    assert (await client.post(f"{MESSAGES}/{accepted['id']}/cancel")).status_code == 409

    for fields, fault in (
        ({"send_at": rfc3339(now + timedelta(days=36))}, "send_at"),
        ({"expires_at": rfc3339(now - timedelta(seconds=1))}, "expires_at"),
        ({"send_at": expires_at, "expires_at": send_at}, "expires_at"),
        ({"send_at": "tomorrow"}, "send_at"),
    ):
        response = await client.post(f"{MESSAGES}/send", json={**SEND, **fields})
        assert response.status_code == 400
        assert [error["field"] for error in response.json()["errors"]] == [fault]
