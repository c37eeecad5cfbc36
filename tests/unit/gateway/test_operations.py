"""Health, metrics, documentation, faults."""

import asyncio
import json
from dataclasses import replace

import httpx2
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from gateway import operation_shapes, send
from gateway.app import build_app
from gateway.front import Front
from gateway.rate_limits import Endpoints, RateLimits
from gateway.schemas import SendRequest
from posthouse.v1 import message_service_pb2 as pb
from tests.unit.gateway.conftest import Gateway
from tests.unit.gateway.fakes import Fakes, accept_all
from tests.unit.gateway.samples import SEND


async def test_health_says_what_the_last_check_saw(gateway: Gateway) -> None:
    response = await gateway.client.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert (await gateway.client.get("/ready")).status_code == 503
    await gateway.monitor.check()
    response = await gateway.client.get("/health")
    operation_shapes.Health.model_validate(response.json())
    assert response.json() == {
        "status": "ok",
        "version": "1.2.3",
        "dependencies": {"message": True, "conversation": True, "dispatch": True},
        "reported": dict.fromkeys(("postgresql", "nats", "outbox", "providers", "monitor"), True),
    }
    assert (await gateway.client.get("/ready")).status_code == 200


async def _ready(client: httpx2.AsyncClient) -> tuple[int, list[str]]:
    response = await client.get("/ready")
    said = operation_shapes.Ready.model_validate(response.json())
    assert said.ready == (response.status_code == 200)
    return response.status_code, said.failing


@pytest.mark.parametrize("name", ["posthouse.v1.ConversationService", "providers", "monitor"])
async def test_ready_reports_what_it_does_not_follow(gateway: Gateway, name: str) -> None:
    await gateway.fakes.serving(name, yes=False)
    await gateway.monitor.check()
    assert await _ready(gateway.client) == (200, [])
    said = (await gateway.client.get("/ready")).json()
    assert list((said["dependencies"] | said["reported"]).values()).count(False) == 1


@pytest.mark.parametrize("name", ["postgresql", "nats", "outbox"])
async def test_ready_follows_what_message_needs(gateway: Gateway, name: str) -> None:
    await gateway.fakes.serving(name, yes=False)
    await gateway.monitor.check()
    assert await _ready(gateway.client) == (503, [name])
    # Whatever it says, sends are taken.
    gateway.fakes.answers["SendMessages"] = accept_all
    assert (await gateway.client.post("/api/v1/messages/send", json=SEND)).status_code == 202


async def test_ready_follows_what_the_setting_lists(gateway: Gateway) -> None:
    app = build_app(replace(gateway.wiring, ready_follows=frozenset({"postgresql"})))
    transport = httpx2.ASGITransport(app)
    for name in ("posthouse.v1.MessageService", "nats", "outbox"):
        await gateway.fakes.serving(name, yes=False)
    await gateway.monitor.check()
    async with httpx2.AsyncClient(transport=transport, base_url="http://posthouse.test") as client:
        assert await _ready(client) == (200, [])
        await gateway.fakes.serving("postgresql", yes=False)
        await gateway.monitor.check()
        assert await _ready(client) == (503, ["message", "postgresql"])


async def test_not_ready_while_draining(gateway: Gateway) -> None:
    await gateway.monitor.check()
    gateway.draining.set()
    assert await _ready(gateway.client) == (503, ["stopping"])


async def test_metrics_count_by_route_template(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    def count(route: str, status: str) -> float:
        labels = {"route": route, "status": status}
        return REGISTRY.get_sample_value("api_request_duration_seconds_count", labels) or 0

    fakes.answers["SendMessages"] = accept_all
    expected = [
        ("/api/v1/messages/send", "202"),
        ("/api/v1/messages/{message_id}", "501"),
        ("unmatched", "404"),
    ]
    before = [count(*labels) for labels in expected]
    await client.post("/api/v1/messages/send", json=SEND)
    await client.get("/api/v1/messages/m1")
    await client.get("/nothing/here")
    assert [count(*labels) for labels in expected] == [number + 1 for number in before]
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert "api_request_duration_seconds" in response.text


async def test_document(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    operations = {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert ("post", send.PATH) in operations
    assert len(operations) == 50
    for operation in operations.values():
        assert "422" not in operation["responses"]
        assert operation["responses"]["default"]["content"].keys() == {"application/problem+json"}
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    # Names of functions in generated clients.
    assert {"send_message", "list_messages", "get_conversation", "replay_dead_letters"} <= set(ids)
    assert not [name for name in ids if "api_v1" in name or "__" in name]
    schemas = document["components"]["schemas"]
    assert schemas["SendRequest"]["additionalProperties"] is False
    # Clients of this version take the answers of later ones.
    for name in ("Accepted", "Message", "Problem", "Event"):
        assert "additionalProperties" not in schemas[name]
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in document["components"]["schemas"]
    for example in send.OPERATION["requestBody"]["content"]["application/json"]["examples"].values():
        SendRequest.model_validate(example["value"])
    assert (await client.get("/api/v1/openapi.json")).json() == document


async def test_everything_in_the_document_is_described(client: httpx2.AsyncClient) -> None:
    document = (await client.get("/api/v1/openapi.json")).json()
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    schemas = document["components"]["schemas"]
    found = [
        *((name, schema) for name, schema in schemas.items()),
        *(
            (f"{name}.{field}", found)
            for name, schema in schemas.items()
            for field, found in schema.get("properties", {}).items()
        ),
        *(
            (f"{operation['operationId']} {parameter['name']}", parameter)
            for operation in operations
            for parameter in operation.get("parameters", ())
        ),
        *(
            (f"{operation['operationId']} {name}", header)
            for operation in operations
            for answer in operation["responses"].values()
            for name, header in answer.get("headers", {}).items()
        ),
    ]
    assert len(found) > 400
    assert [name for name, each in found if not each.get("description")] == []
    # In the words of JSON.
    message = schemas["Message"]["properties"]
    assert message["segments"]["description"].endswith("Null for other channels.")
    assert message["message_at"]["description"].endswith("else created_at.")
    assert 'but failed with error_code "expired". Null: never.' in message["expires_at"]["description"]
    for foreign in ("Output only", "create_time", "FAILED", "Unspecified"):
        assert foreign not in str(schemas)


async def test_page_loads_nothing_from_elsewhere(client: httpx2.AsyncClient) -> None:
    page = (await client.get("/api/v1/docs")).text
    assert "https://" not in page
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/api/v1/docs/assets/{asset}" in page
        assert (await client.get(f"/api/v1/docs/assets/{asset}")).status_code == 200


async def test_a_fault_shows_nothing_of_itself(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("gateway.render.message", broken)
    monkeypatch.setattr("gateway.render.accepted", broken)
    gateway.fakes.answers["GetMessage"] = pb.GetMessageResponse()
    gateway.fakes.answers["SendMessages"] = accept_all
    with capture_logs() as lines:
        responses = [
            await gateway.client.get("/api/v1/messages/m1"),
            await gateway.client.post("/api/v1/messages/send", json=SEND),
        ]
    assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in responses]
    for response in responses:
        assert (response.status_code, response.json()["reason"]) == (500, "INTERNAL")
        assert response.headers["content-type"] == "application/problem+json"
        assert "secret" not in response.text
        assert "Traceback" not in response.text


async def test_front_passes_other_scopes_on() -> None:
    seen: list[str] = []

    async def app(scope: dict[str, str], _receive: object, _send: object) -> None:
        await asyncio.sleep(0)
        seen.append(scope["type"])

    limits, endpoints = RateLimits(), Endpoints((), ())
    front = Front(
        app,
        direct={},
        webhooks=app,
        max_body_bytes=1,
        max_webhook_bytes=1,
        rate_limits=limits,
        endpoints=endpoints,
    )  # type: ignore[arg-type]
    await front({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
