"""Servers that do nothing but answer, set up like Posthouse's own: the floors of gRPC and HTTP.

`python -m benchmarks.echo_servers grpc|http PORT` serves until it is ended.
"""

import sys
from typing import Any

import grpc
import uvicorn
import uvloop

from posthouse.v1 import message_pb2 as message_pb
from posthouse.v1 import message_service_pb2 as pb

_ANSWER = pb.AcceptedMessage(
    id="01890000-0000-7000-8000-000000000000",
    conversation_id="89997e8c-b501-515f-8819-ecb46925d0fb",
    channel=message_pb.CHANNEL_SMS,
    state=message_pb.MESSAGE_STATE_PENDING,
    sender="+15551234567",
    recipient="+15559876543",
    segment_count=1,
    segment_encoding=message_pb.SEGMENT_ENCODING_GSM7,
)
_BODY = (
    b'{"id":"01890000-0000-7000-8000-000000000000","conversation_id":"89997e8c-b501-515f-8819-ecb46925d0fb",'
    b'"status":"pending","type":"sms","from":"+15551234567","to":"+15559876543","segments":1,'
    b'"encoding":"gsm7","created_at":"2026-01-01T00:00:00.000000Z","send_at":null}'
)
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


async def _one(_request: Any, _context: Any) -> pb.SendMessageResponse:
    return pb.SendMessageResponse(message=_ANSWER)


async def _batch(request: Any, _context: Any) -> pb.SendMessagesResponse:
    return pb.SendMessagesResponse(results=[pb.SendResult(message=_ANSWER)] * len(request.requests))


async def _serve_grpc(port: int) -> None:
    server = grpc.aio.server()
    methods = {
        "SendMessage": grpc.unary_unary_rpc_method_handler(
            _one, pb.SendMessageRequest.FromString, pb.SendMessageResponse.SerializeToString
        ),
        "SendMessages": grpc.unary_unary_rpc_method_handler(
            _batch, pb.SendMessagesRequest.FromString, pb.SendMessagesResponse.SerializeToString
        ),
    }
    handler = grpc.method_handlers_generic_handler("posthouse.v1.MessageService", methods)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def _route(_scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _BODY})


async def _serve_http(port: int) -> None:
    # As gateway/__main__.py configures it.
    config = uvicorn.Config(
        _route,
        port=port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=75,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    kind, number = sys.argv[1:]
    uvloop.run((_serve_http if kind == "http" else _serve_grpc)(int(number)))
