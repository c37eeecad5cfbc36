"""A gRPC client that knows nothing of Posthouse finds its way by reflection alone."""

import json

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.stack import PROGRAM, E2eStack, eventually

pytestmark = pytest.mark.integration

_BUF = PROGRAM.with_name("buf")
_SERVICES = ("MessageService", "ConversationService", "DispatchService")


def _curl(stack: E2eStack, service: int, *arguments: str) -> str:
    # The schema can only come from the server: the folder has no .proto file.
    *options, path = arguments
    result = stack.run(
        str(_BUF),
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        *options,
        f"http://127.0.0.1:{stack.grpc_port + service}{path}",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(("place", "name"), list(enumerate(_SERVICES)))
def test_reflection_lists_the_service(stack: E2eStack, place: int, name: str) -> None:
    beside = {
        "MessageService": {"AuthService", "PrivacyService"},
        "ConversationService": {"SubscriptionService"},
    }.get(name, set())
    assert set(_curl(stack, place, "--list-services", "").split()) == {
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        *(f"posthouse.v1.{each}" for each in {name, *beside}),
    }


@pytest.mark.parametrize(
    ("place", "methods"),
    [
        (0, {"MessageService/SendMessage", "MessageService/SendMessages", "MessageService/IngestWebhook"}),
        (1, {"ConversationService/ListConversations", "ConversationService/WatchEvents"}),
        (2, {"DispatchService/ListProviders", "DispatchService/ReplayDeadLetters"}),
    ],
)
def test_reflection_lists_the_methods(stack: E2eStack, place: int, methods: set[str]) -> None:
    listed = _curl(stack, place, "--list-methods", "").split()
    assert {f"posthouse.v1.{method}" for method in methods} <= set(listed)


def test_it_sends_a_message_and_reads_it_back(stack: E2eStack) -> None:
    request = {"sender": "+15551234567", "recipient": "+15559870002", "body": "From afar"}
    sent = json.loads(_curl(stack, 0, "-d", json.dumps(request), "/posthouse.v1.MessageService/SendMessage"))[
        "message"
    ]
    assert sent["state"] == "MESSAGE_STATE_PENDING"

    def state() -> str:
        asked = json.dumps({"messageId": sent["id"]})
        answer = json.loads(_curl(stack, 0, "-d", asked, "/posthouse.v1.MessageService/GetMessage"))
        return str(answer["message"]["state"])

    eventually(lambda: state() == "MESSAGE_STATE_DELIVERED", what="it is delivered")


def test_a_refusal_names_the_field(stack: E2eStack) -> None:
    url = f"http://127.0.0.1:{stack.grpc_port}/posthouse.v1.MessageService/SendMessage"
    result = stack.run(
        str(_BUF),
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        "-d",
        '{"sender": "+15551234567"}',
        url,
    )
    assert result.returncode != 0
    problem = json.loads(result.stderr)
    assert problem["code"] == "invalid_argument"
    assert {detail["type"] for detail in problem["details"]} == {
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
    }


@pytest.mark.parametrize(("place", "name"), list(enumerate(_SERVICES)))
def test_health_says_serving(stack: E2eStack, place: int, name: str) -> None:
    with stack.channel(place) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in (f"posthouse.v1.{name}", ""):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=60)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
