"""What an interceptor makes of the handler of a call, whatever kind of method it is."""

from collections.abc import Callable
from typing import Any

import grpc

Behaviour = Callable[[Any, Any], Any]

# By whether requests and responses are streams.
_KINDS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


def wrapped(
    handler: Any, *, unary: Callable[[Behaviour], Behaviour], stream: Callable[[Behaviour], Behaviour]
) -> Any:
    """Return a handler whose behaviour is wrapped, by `stream` where its responses are one."""
    name, build = _KINDS[handler.request_streaming, handler.response_streaming]
    wrap = stream if handler.response_streaming else unary
    return build(wrap(getattr(handler, name)), handler.request_deserializer, handler.response_serializer)


def unparsed(handler: Any, behaviour: Behaviour) -> Any:
    """Return a handler of the same kind that never parses its request."""
    _, build = _KINDS[handler.request_streaming, handler.response_streaming]
    return build(behaviour)
