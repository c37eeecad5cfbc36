"""Routes under /api/v1/opt-outs."""

from typing import Any

import httpx2
import pytest

from gateway import opt_out_shapes as shapes
from posthouse.v1 import consent_pb2, conversation_pb2
from posthouse.v1 import message_service_pb2 as pb
from services.kit import enum_names
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.samples import NOON, NOON_TEXT

URL = "/api/v1/opt-outs"
PAIR = {"from": "+15551234567", "to": "+15559876543"}

OPT_OUT = consent_pb2.OptOut(
    sender=PAIR["from"],
    recipient=PAIR["to"],
    channel_family=conversation_pb2.CHANNEL_FAMILY_SMS,
    source=consent_pb2.CONSENT_SOURCE_CONTACT,
    keyword="STOP",
    reason="why",
    message_id="m1",
    create_time=NOON,
)
EVENT = consent_pb2.ConsentEvent(
    id="e1",
    sender=PAIR["from"],
    recipient=PAIR["to"],
    channel_family=conversation_pb2.CHANNEL_FAMILY_EMAIL,
    change=consent_pb2.CONSENT_CHANGE_OVERRIDDEN,
    source=consent_pb2.CONSENT_SOURCE_API,
    effective=True,
    event_time=NOON,
    create_time=NOON,
)
SHOWN = {
    **PAIR,
    "channel_family": "sms",
    "source": "contact",
    "keyword": "STOP",
    "reason": "why",
    "message_id": "m1",
    "created_at": NOON_TEXT,
}


def test_words_are_those_of_the_contract() -> None:
    assert shapes.ChangeWord.__args__ == enum_names.CONSENT_CHANGE.words
    assert shapes.SourceWord.__args__ == enum_names.CONSENT_SOURCE.words


async def test_list(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListOptOuts"] = pb.ListOptOutsResponse(opt_outs=[OPT_OUT], next_page_token="t")
    query = {**PAIR, "channel_family": "sms", "page_size": "7", "page_token": "p"}
    response = await client.get(URL, params=query)
    assert response.json() == {"opt_outs": [SHOWN], "next_page_token": "t"}
    shapes.OptOuts.model_validate(response.json())
    assert fakes.only("ListOptOuts").request == pb.ListOptOutsRequest(
        page_size=7,
        page_token="p",
        sender=PAIR["from"],
        recipient=PAIR["to"],
        channel_family=conversation_pb2.CHANNEL_FAMILY_SMS,
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("+15559876543", "+15559876543"),
        ("%2B15559876543", "+15559876543"),
        ("15559876543", "15559876543"),
        ("%20a@example.com", " a@example.com"),
    ],
)
async def test_a_plus_in_a_query(client: httpx2.AsyncClient, fakes: Fakes, written: str, meant: str) -> None:
    fakes.answers["ListOptOuts"] = pb.ListOptOutsResponse()
    await client.get(f"{URL}?to={written}")
    assert fakes.only("ListOptOuts").request.recipient == meant


@pytest.mark.parametrize(("created", "status"), [(True, 201), (False, 200)])
async def test_add(client: httpx2.AsyncClient, fakes: Fakes, created: bool, status: int) -> None:
    fakes.answers["AddOptOut"] = pb.AddOptOutResponse(opt_out=OPT_OUT, created=created)
    response = await client.post(URL, json={**PAIR, "reason": "why"})
    assert (response.status_code, response.json()) == (status, SHOWN)
    asked = pb.AddOptOutRequest(sender=PAIR["from"], recipient=PAIR["to"], reason="why")
    assert fakes.only("AddOptOut").request == asked


async def test_remove(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["RemoveOptOut"] = pb.RemoveOptOutResponse(removed=True)
    response = await client.delete(URL, params={**PAIR, "reason": "why"})
    assert response.json() == {"removed": True}
    shapes.Removed.model_validate(response.json())
    asked = pb.RemoveOptOutRequest(sender=PAIR["from"], recipient=PAIR["to"], reason="why")
    assert fakes.only("RemoveOptOut").request == asked


async def test_history(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListConsentEvents"] = pb.ListConsentEventsResponse(events=[EVENT])
    response = await client.get(f"{URL}/history", params={**PAIR, "change": "overridden"})
    assert response.json() == {
        "events": [
            {
                "id": "e1",
                **PAIR,
                "channel_family": "email",
                "change": "overridden",
                "source": "api",
                "keyword": None,
                "reason": None,
                "message_id": None,
                "effective": True,
                "said_at": NOON_TEXT,
                "created_at": NOON_TEXT,
            }
        ],
        "next_page_token": None,
    }
    shapes.ConsentEvents.model_validate(response.json())
    asked = fakes.only("ListConsentEvents").request
    assert (asked.sender, asked.change) == (PAIR["from"], consent_pb2.CONSENT_CHANGE_OVERRIDDEN)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "field"),
    [
        ("POST", "", {}, {"from": "x"}, "to"),
        ("POST", "", {}, {**PAIR, "to": 1}, "to"),
        ("DELETE", "", {"to": "x"}, None, "from"),
        ("GET", "", {"channel_family": "fax"}, None, "channel_family"),
        ("GET", "/history", {"change": "maybe"}, None, "change"),
    ],
)
async def test_bad_shapes(
    client: httpx2.AsyncClient, fakes: Fakes, method: str, path: str, query: Any, body: Any, field: str
) -> None:
    response = await client.request(method, URL + path, params=query, json=body)
    assert response.status_code == 400
    assert [error["field"] for error in response.json()["errors"]] == [field]
    assert not fakes.seen
