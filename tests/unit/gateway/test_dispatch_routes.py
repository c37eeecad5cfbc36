"""Routes of dispatch: providers, dead letters, the simulator."""

import httpx2
from google.protobuf.timestamp_pb2 import Timestamp

from gateway import operation_shapes
from posthouse.v1 import dispatch_pb2, message_pb2
from posthouse.v1 import dispatch_service_pb2 as dispatch_pb
from tests.unit.gateway import samples
from tests.unit.gateway.fakes import Fakes


async def test_providers(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListProviders"] = dispatch_pb.ListProvidersResponse(providers=[samples.provider()])
    response = await client.get("/api/v1/providers")
    operation_shapes.Providers.model_validate(response.json())
    assert response.json()["providers"][0]["breaker"] == "half_open"


async def test_dead_letters(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ListDeadLetters"] = dispatch_pb.ListDeadLettersResponse(
        dead_letters=[samples.dead_letter()]
    )
    response = await client.get(
        "/api/v1/dead-letters?type=sms&reason=rejected&include_replayed=true&provider=twilio&error_code=21211"
        "&since=2026-11-22T03:00:00Z&until=2026-11-22T04:00:00Z"
    )
    operation_shapes.DeadLetters.model_validate(response.json())
    assert fakes.only("ListDeadLetters").request == dispatch_pb.ListDeadLettersRequest(
        channel=message_pb2.CHANNEL_SMS,
        reason="rejected",
        include_replayed=True,
        provider="twilio",
        error_code="21211",
        since_time=Timestamp(seconds=1795316400),
        until_time=Timestamp(seconds=1795320000),
    )


async def test_replay(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ReplayDeadLetters"] = dispatch_pb.ReplayDeadLettersResponse(
        replayed_message_ids=["m1"], replayed_count=1, more=True
    )
    response = await client.post("/api/v1/dead-letters/replay", json={"message_ids": ["m1", "m2"]})
    operation_shapes.Replayed.model_validate(response.json())
    assert response.json() == {"replayed_message_ids": ["m1"], "replayed_count": 1, "more": True}
    request = fakes.only("ReplayDeadLetters").request
    assert request == dispatch_pb.ReplayDeadLettersRequest(message_ids=["m1", "m2"])


async def test_replay_by_filter(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    fakes.answers["ReplayDeadLetters"] = dispatch_pb.ReplayDeadLettersResponse()
    chosen = {"type": "sms", "reason": "rejected", "provider": "twilio", "error_code": "21211"}
    times = {"since": "2026-11-22T03:00:00Z", "until": "2026-11-22T04:00:00Z"}
    await client.post("/api/v1/dead-letters/replay", json={"filter": {**chosen, **times}})
    assert fakes.only("ReplayDeadLetters").request == dispatch_pb.ReplayDeadLettersRequest(
        filter=dispatch_pb.DeadLetterFilter(
            channel=message_pb2.CHANNEL_SMS,
            reason="rejected",
            provider="twilio",
            error_code="21211",
            since_time=Timestamp(seconds=1795316400),
            until_time=Timestamp(seconds=1795320000),
        )
    )


async def test_simulator(client: httpx2.AsyncClient, fakes: Fakes) -> None:
    profile = dispatch_pb2.SimulatorProfile(channel=message_pb2.CHANNEL_SMS, reply_rate=0.5, seed=2**60)
    fakes.answers["GetSimulatorProfile"] = dispatch_pb.GetSimulatorProfileResponse(profiles=[profile])
    fakes.answers["SetSimulatorProfile"] = dispatch_pb.SetSimulatorProfileResponse(profiles=[profile])
    got = (await client.get("/api/v1/simulator?type=sms")).json()
    operation_shapes.SimulatorProfiles.model_validate(got)
    assert fakes.only("GetSimulatorProfile").request.channel == message_pb2.CHANNEL_SMS
    response = await client.put("/api/v1/simulator", json=got["profiles"][0])
    assert response.json() == got
    assert fakes.only("SetSimulatorProfile").request.profile == profile
    response = await client.put("/api/v1/simulator", json={"reply_rate": 2, "latency_ms": -1, "seed": "x"})
    assert {error["field"] for error in response.json()["errors"]} == {"reply_rate", "latency_ms", "seed"}
