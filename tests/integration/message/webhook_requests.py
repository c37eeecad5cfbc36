"""Requests of providers as the gateway passes them on."""

from posthouse.v1 import message_service_pb2 as pb
from services.providers.base import WebhookRequest


def passed_on(
    provider: str, request: WebhookRequest, remote_address: str = "203.0.113.9"
) -> pb.IngestWebhookRequest:
    """Return the call that passes a request on."""
    return pb.IngestWebhookRequest(
        provider=provider,
        method=request.method,
        url=request.url,
        headers=[pb.Header(name=name, value=value) for name, value in request.headers.items()],
        body=request.body,
        remote_address=remote_address,
    )
