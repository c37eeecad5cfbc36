"""Routes under /api/v1/erasures."""

import httpx2
import pytest

from gateway import erasures
from posthouse.v1 import privacy_service_pb2 as pb
from services.kit.errors import NotFoundError
from tests.unit.gateway.fakes import Fakes
from tests.unit.gateway.samples import NOON, NOON_TEXT

URL = "/api/v1/erasures"
ERASURE = pb.Erasure(id="e1", masked_address="+1*****6543", reason="why", create_time=NOON, message_count=7)
SHOWN = {
    "id": "e1",
    "masked_address": "+1*****6543",
    "reason": "why",
    "caller": None,
    "created_at": NOON_TEXT,
    "ended_at": None,
    "cancelled_count": 0,
    "message_count": 7,
    "conversation_count": 0,
    "webhook_count": 0,
}


@pytest.mark.parametrize(("created", "status"), [(True, 202), (False, 200)])
async def test_erase(client: httpx2.AsyncClient, fakes: Fakes, created: bool, status: int) -> None:
    fakes.answers["EraseAddress"] = pb.EraseAddressResponse(erasure=ERASURE, created=created)
    response = await client.post(URL, json={"address": "+1 555 987 6543", "reason": "why"})
    assert (response.status_code, response.json()) == (status, SHOWN)
    erasures.Erasure.model_validate(response.json())
    request = fakes.only("EraseAddress").request
    assert (request.address, request.reason) == ("+1 555 987 6543", "why")


async def test_list_and_get(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    ended = pb.Erasure()
    ended.CopyFrom(ERASURE)
    ended.end_time.CopyFrom(NOON)
    fakes.answers["ListErasures"] = pb.ListErasuresResponse(erasures=[ended], next_page_token="t")
    listed = await client.get(URL, params={"page_size": "7", "page_token": "p"})
    assert listed.json() == {"erasures": [{**SHOWN, "ended_at": NOON_TEXT}], "next_page_token": "t"}
    erasures.Erasures.model_validate(listed.json())
    request = fakes.only("ListErasures").request
    assert (request.page_size, request.page_token) == (7, "p")
    fakes.answers["GetErasure"] = NotFoundError("none", reason="ERASURE_NOT_FOUND")
    missing = await client.get(f"{URL}/e2")
    assert (missing.status_code, missing.json()["reason"]) == (404, "ERASURE_NOT_FOUND")
    assert fakes.only("GetErasure").request.erasure_id == "e2"
