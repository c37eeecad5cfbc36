"""The hot route, POST /api/v1/messages/send: plain ASGI, one pydantic check, one shared call."""

from typing import Any

import orjson
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gateway import problems, queries, render, requests
from gateway.bodies import read_body
from gateway.identity import caller
from gateway.joining import Sends
from gateway.schemas import SendRequest
from gateway.whole_answers import answer
from posthouse.v1 import message_service_pb2 as pb
from services.kit.errors import PosthouseError

PATH = "/api/v1/messages/send"

_JSON = (b"content-type", b"application/json")
_REPLAYED = (b"idempotent-replayed", b"true")
_ACCEPTED = 202


class SendRoute:
    """Accepts one message; FastAPI's route layer would halve its rate."""

    def __init__(self, coalescer: Sends) -> None:
        self._coalescer = coalescer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one send."""
        problem = queries.refusal(scope["query_string"], ())
        if problem is not None:
            await problems.response(problem, scope)(scope, receive, send)
            return
        try:
            body = await read_body(receive)
            if body is None:
                return
            headers: dict[bytes, bytes] = dict(scope["headers"])
            requests.check_content_type(headers.get(b"content-type"))
            key = headers.get(b"idempotency-key")
            request = requests.send_request(
                SendRequest.model_validate_json(body),
                requests.idempotency_key(None if key is None else key.decode("latin-1"), scope["headers"]),
            )
            message = await self._coalescer.send(
                request, size=len(body), caller=caller(scope), request_id=scope["state"]["request_id"]
            )
        except ValidationError as error:
            problem = problems.from_validation(error.errors(include_url=False, include_input=False))
        except PosthouseError as error:
            problem = problems.from_error(error)
        except HTTPException as error:
            problem = problems.from_http(error)
        else:
            await _accept(message, scope, send)
            return
        await problems.response(problem, scope)(scope, receive, send)


async def _accept(message: pb.AcceptedMessage, scope: Scope, send: Send) -> None:
    headers = [_JSON, _REPLAYED] if message.replayed else [_JSON]
    await answer(scope, send, _ACCEPTED, headers, orjson.dumps(render.accepted(message)))


# The route is not FastAPI's, so its documentation is written by hand.
OPERATION: dict[str, Any] = {
    "tags": ["messages"],
    "summary": "Send a message",
    "description": (
        "Accepts one SMS, MMS or e-mail. A 202 means it is committed: it will be sent, or you can read why "
        "it was not. With an Idempotency-Key a repeat gets the first answer and sends nothing again."
    ),
    "operationId": "send_message",
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "1 to 255 visible ASCII characters; kept for at least 24 hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/SendRequest"},
                "examples": {
                    "sms": {
                        "summary": "Text message",
                        "value": {
                            "from": "+15551234567",
                            "to": "+15559876543",
                            "body": "Hello from Posthouse",
                        },
                    },
                    "mms": {
                        "summary": "Text message with media",
                        "value": {
                            "from": "+15551234567",
                            "to": "+15559876543",
                            "type": "mms",
                            "body": "Look at this",
                            "attachments": [
                                {"url": "https://example.com/cat.jpg", "content_type": "image/jpeg"}
                            ],
                        },
                    },
                    "email": {
                        "summary": "E-mail",
                        "value": {
                            "from": "desk@example.com",
                            "to": "guest@example.org",
                            "subject": "Your room is ready",
                            "body": "Your room is ready.",
                            "html": "<p>Your room is <b>ready</b>.</p>",
                        },
                    },
                },
            }
        },
    },
    "responses": {
        "202": {
            "description": "Committed.",
            "headers": {
                "Idempotent-Replayed": {
                    "description": "true when this is the stored answer to an earlier request.",
                    "schema": {"type": "string"},
                }
            },
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
        }
    },
}
