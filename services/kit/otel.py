"""Tracing by OpenTelemetry. Imported only where an exporter is set."""

import contextlib
import contextvars
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Self

import grpc
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.grpc import aio_client_interceptors, aio_server_interceptor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.status import Status

from services.kit.masking import mask_value
from services.kit.tracing import CONTEXTS, is_sampled

# Most links of a batch's span; each message's own spans tell of the batch as well.
_MOST_LINKS: Final = 128
# Seconds an export may take: at the end of a process as well.
_EXPORT_TIMEOUT: Final = 3

_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_W3C = TraceContextTextMapPropagator()
_given: contextvars.ContextVar[str] = contextvars.ContextVar("traceparents_given", default="")


class OtelTracing:
    """Makes spans and the interceptors that make them of gRPC calls."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("posthouse")

    @classmethod
    def over_otlp(cls, process: str, endpoint: str, *, ratio: float) -> Self:
        """Return what exports to an OTLP collector over gRPC, without TLS to an http address."""
        exporter = OTLPSpanExporter(
            endpoint=endpoint, insecure=not endpoint.startswith("https://"), timeout=_EXPORT_TIMEOUT
        )
        provider = TracerProvider(
            resource=Resource.create({"service.name": f"posthouse-{process}"}),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(BatchSpanProcessor(MaskingExporter(exporter)))
        return cls(provider)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()

    def client_interceptors(self) -> list[grpc.aio.ClientInterceptor]:
        """Return what makes spans of the calls of a channel, and sends their context along."""
        made: list[grpc.aio.ClientInterceptor] = aio_client_interceptors(  # type: ignore[no-untyped-call]
            tracer_provider=self._provider, filter_=_is_traced
        )
        return made

    def server_interceptors(self) -> "list[grpc.aio.ServerInterceptor[Any, Any]]":
        """Return what makes spans of the calls of a server."""
        made = aio_server_interceptor(  # type: ignore[no-untyped-call]
            tracer_provider=self._provider, filter_=_is_traced
        )
        return [made, _Given()]

    def current(self) -> str:
        """Return the traceparent of the current span, "" when there is none."""
        return _write(trace.get_current_span().get_span_context())

    def contexts(self, count: int) -> list[str]:
        """Return the traceparents of what a call asks for: as it says, or that of the call itself for all."""
        given = _given.get().split(",")
        return given if len(given) == count and any(given) else [self.current()] * count

    @contextlib.contextmanager
    def span(
        self, name: str, contexts: Sequence[str] | None, kind: str, attributes: Mapping[str, str | int]
    ) -> Iterator[str]:
        """Make a span, see `tracing.span`."""
        parent, links = None, []
        if contexts is not None:
            known = list(dict.fromkeys(context for context in contexts if is_sampled(context)))
            if not known:
                # What is called from here is not to follow what this task was started by.
                token = otel_context.attach(_read(next(iter(contexts), "")))
                try:
                    yield ""
                finally:
                    otel_context.detach(token)
                return
            parent = _read(known[0])
            links = [Link(_read_span(context)) for context in known[1 : _MOST_LINKS + 1]]
        with self._tracer.start_as_current_span(
            name,
            context=parent,
            kind=_KINDS[kind],
            links=links,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=True,
        ):
            yield self.current()

    def record(
        self,
        name: str,
        context: str,
        kind: str,
        attributes: Mapping[str, str | int],
        times: tuple[datetime, datetime] | None = None,
    ) -> None:
        """Make a span of what has ended, in the trace of a context, linked to the current span."""
        here = trace.get_current_span().get_span_context()
        start, end = (None, None) if times is None else (_nanoseconds(times[0]), _nanoseconds(times[1]))
        self._tracer.start_span(
            name,
            context=_read(context),
            kind=_KINDS[kind],
            links=[Link(here)] if here.is_valid else [],
            attributes=attributes,
            start_time=start,
        ).end(end)

    @contextlib.contextmanager
    def request(self, headers: Mapping[str, str], method: str) -> Iterator[trace.Span]:
        """Make the span of an HTTP request, which may bring its context along."""
        with self._tracer.start_as_current_span(
            method,
            context=_W3C.extract(headers, otel_context.Context()),
            kind=SpanKind.SERVER,
            record_exception=False,
        ) as made:
            yield made


class MaskingExporter(SpanExporter):
    """Exports spans without any text of errors, and with masked attributes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export what may be read of spans."""
        return self._exporter.export([_masked(made) for made in spans])

    def shutdown(self) -> None:
        """Close the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis)


class _Given(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in its stubs only
    """Keeps the traceparents that a call brings for its parts."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Set them for the handler, which runs in the same task."""
        metadata: Any = details.invocation_metadata
        _given.set(next((str(value) for key, value in metadata or () if key == CONTEXTS), ""))
        return await continuation(details)


def _is_traced(details: Any) -> bool:
    """Tell whether a call becomes a span: of ours, and not a stream without end."""
    method = details.method
    name = method.decode() if isinstance(method, bytes) else str(method)
    return name.startswith("/posthouse.") and not name.endswith("/WatchEvents")


def _write(made: trace.SpanContext) -> str:
    if not made.is_valid:
        return ""
    return f"00-{made.trace_id:032x}-{made.span_id:016x}-{int(made.trace_flags) & 1:02x}"


def _read(traceparent: str) -> otel_context.Context:
    return _W3C.extract({"traceparent": traceparent}, otel_context.Context())


def _read_span(traceparent: str) -> trace.SpanContext:
    return trace.get_current_span(_read(traceparent)).get_span_context()


def _nanoseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000) * 1000


def _masked(made: ReadableSpan) -> ReadableSpan:
    return ReadableSpan(
        name=made.name,
        context=made.get_span_context(),
        parent=made.parent,
        resource=made.resource,
        attributes={key: mask_value(key, value) for key, value in (made.attributes or {}).items()},
        links=made.links,
        kind=made.kind,
        status=Status(made.status.status_code),
        start_time=made.start_time,
        end_time=made.end_time,
        instrumentation_scope=made.instrumentation_scope,
    )
