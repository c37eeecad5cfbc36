"""A gRPC server as every service runs it: rich errors, health, reflection, limits, drain."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from services.kit import metrics
from services.kit.auth_interceptor import AuthInterceptor
from services.kit.authentication import Authenticator
from services.kit.config import Settings
from services.kit.errors import InternalError, NotImplementedYetError, PosthouseError
from services.kit.exposure import check_exposure
from services.kit.logs import bind_request, get_logger, logs_debug
from services.kit.request_ids import request_id_of_call
from services.kit.rpc_handlers import Behaviour, wrapped
from services.kit.status import to_status
from services.kit.tls import server_credentials
from services.kit.tracing import tracing

_log = get_logger(__name__)


_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# Seconds that answers on their way and open streams get once no unary call is under way.
_STREAM_GRACE = 0.5


class ErrorInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg] # generic in its stubs only
    """Maps typed errors to rich statuses, hides everything else behind INTERNAL, and times each call."""

    def __init__(self) -> None:
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until no unary call is under way; streams have no end of their own to wait for."""
        await self._idle.wait()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(details)
        if handler is None:
            return handler
        method = details.method.rpartition("/")[2]
        return wrapped(
            handler,
            unary=lambda behaviour: self._unary(method, behaviour),
            stream=lambda behaviour: _stream(method, behaviour),
        )

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            start = time.perf_counter()
            code = grpc.StatusCode.OK
            bind_request(request_id_of_call(context.invocation_metadata()))
            with self._counted():
                try:
                    return await behaviour(request, context)
                except grpc.aio.AbortError:
                    # A library's servicer, such as that of health, has ended the call by itself.
                    code = context.code()
                    raise
                except Exception as error:  # noqa: BLE001 - the last line of defence of a call
                    refusal = _refusal_of(method, error)
                    code = refusal.code
                    await _abort(refusal, context)
                finally:
                    seconds = time.perf_counter() - start
                    metrics.RPC_SECONDS.labels(method, code.name).observe(seconds)
                    if logs_debug():
                        _log.debug("call_done", method=method, code=code.name, seconds=round(seconds, 6))

        return call


def _stream(method: str, behaviour: Behaviour) -> Behaviour:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        bind_request(request_id_of_call(context.invocation_metadata()))
        try:
            responses = behaviour(request, context)
            if inspect.isawaitable(responses):  # the health service's Watch writes them by itself
                await responses
                return
            async for response in responses:
                yield response
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last line of defence of a call
            await _abort(_refusal_of(method, error), context)

    return call


def _refusal_of(method: str, error: Exception) -> PosthouseError:
    """Return the error the caller is to see; what is no typed error is logged and hidden."""
    if isinstance(error, PosthouseError):
        return error
    if isinstance(error, NotImplementedError):  # what a servicer has not overridden
        return NotImplementedYetError(f"{method} is not implemented yet")
    _log.error("call_failed", method=method, exc_info=error)
    return InternalError()


async def _abort(error: PosthouseError, context: Any) -> None:
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


class RpcServer:
    """One service's server. Health says NOT_SERVING until `set_serving(True)`."""

    def __init__(
        self,
        settings: Settings,
        port: int,
        service: str,
        *,
        interceptors: Sequence["grpc.aio.ServerInterceptor[Any, Any]"] = (),
        streams: int = 0,
        authenticator: Authenticator | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        """Bind to the settings' address; raises WrongSettingError, OSError. `beside` names more services."""
        check_exposure(settings)
        if settings.authenticates and authenticator is None:
            raise ValueError("the settings ask for authentication, and there is nothing to do it")
        self._authenticator = authenticator
        guards = [] if authenticator is None else [AuthInterceptor(authenticator)]
        found = tracing()
        tracers = [] if found is None else found.server_interceptors()
        self._grace = settings.shutdown_grace
        self._services = (service, *beside)
        self._health = HealthServicer()
        self._calls = ErrorInterceptor()
        self.server = grpc.aio.server(
            # The first is the outermost: what the others raise is mapped too, before a trace can tell it.
            interceptors=[*tracers, self._calls, *guards, *interceptors],
            # Long streams are counted and limited by who serves them, and leave the calls their room.
            maximum_concurrent_rpcs=settings.grpc_max_concurrent_rpcs + streams,
            options=[
                # Two stacks on one port must collide, not share it.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", settings.grpc_max_message_bytes),
                ("grpc.max_send_message_length", settings.grpc_max_message_bytes),
                ("grpc.max_metadata_size", 64 * 1024),
                # Idle clients may ping; do not send them away for it.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.keepalive_time_ms", 60_000),
                # Clients resolve names only when they connect: with endless connections they would never find
                # a new copy. Calls that are under way end as they would have.
                ("grpc.max_connection_age_ms", 300_000),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        health = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*self._services, health, reflection.SERVICE_NAME), self.server)
        self.address = f"{settings.host}:{port}"
        try:
            credentials = server_credentials(settings)
            self.port = (
                self.server.add_insecure_port(self.address)
                if credentials is None
                else self.server.add_secure_port(self.address, credentials)
            )
        except RuntimeError:
            raise OSError(f"cannot listen on {self.address}: the address is in use or not ours") from None

    async def start(self) -> None:
        """Begin to listen, as NOT_SERVING."""
        await self.set_serving(False)
        if self._authenticator is not None:
            self._authenticator.start()
        await self.server.start()

    async def set_serving(self, serving: bool) -> None:
        """Tell health checks whether the service's dependencies answer."""
        status = _SERVING if serving else _NOT_SERVING
        for service in (*self._services, ""):
            await self._health.set(service, status)

    async def report(self, dependency: str, answers: bool) -> None:
        """Tell health checks that ask for a dependency by its name whether it answers."""
        await self._health.set(dependency, _SERVING if answers else _NOT_SERVING)

    async def retire(self, notice: float) -> None:
        """Say NOT_SERVING for good, and serve for `notice` seconds more: whoever balances calls sees it."""
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(notice)

    async def stop(self) -> None:
        """Refuse new calls, let those in flight finish within the grace, then stop."""
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self.server.stop(self._grace))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                await self._calls.wait_idle()
        # A shorter grace overrides the first: open streams, such as health watches, end now.
        await self.server.stop(_STREAM_GRACE)
        await stopping
        if self._authenticator is not None:
            await self._authenticator.close()
