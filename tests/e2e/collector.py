"""A collector of OTLP in the test's own process: keeps every span that is exported to it."""

import contextlib
import re
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as pb_grpc

# What has quotes in the text of a message, but for ids.
_TEXT = re.compile(r'^\s*((?!\w*_id:)\w+: ".*")$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Exported:
    """One span as it came in; ids in hex."""

    process: str
    name: str
    trace: str
    id: str
    parent: str
    links: frozenset[str]
    attributes: dict[str, Any]


@dataclass
class Collector(pb_grpc.TraceServiceServicer):
    """Keeps spans in the order they came."""

    spans: list[Exported] = field(default_factory=list)
    texts: set[str] = field(default_factory=set)
    endpoint: str = ""

    def Export(  # noqa: N802 - the name of the contract
        self, request: pb.ExportTraceServiceRequest, _context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        """Keep what is exported, and every text in it: names, attributes, events, statuses."""
        self.texts.update(_TEXT.findall(str(request)))
        for resource in request.resource_spans:
            process = {item.key: item.value.string_value for item in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Exported(
                            process["service.name"].removeprefix("posthouse-"),
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            frozenset(link.trace_id.hex() for link in span.links),
                            {item.key: _value(item.value) for item in span.attributes},
                        )
                    )
        return pb.ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Exported]:
        """Return the spans of one trace."""
        return [span for span in list(self.spans) if span.trace == trace]


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Yield a collector that listens at its endpoint."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    pb_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    collector.endpoint = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value")) if value.WhichOneof("value") else None
