"""gRPC servers of the rooms: service credential, limits, errors translated once, health and reflection.

A servicer raises JobberErrors; the interceptor here turns them into status codes, and everything else into INTERNAL with an
error id whose cause is only in the log.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn, TypeAlias

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from api import metrics
from jobber import errors, tracing
from jobber.credentials import is_service_token
from jobber.log import event
from jobber.settings import ServiceSettings
from protos.client import MAX_MESSAGE_BYTES

#: Of the sent metadata together; a service token and a trace id need less than 1 kB.
MAX_METADATA_BYTES = 8 << 10
#: Streams of one connection at once; more wait in the client.
MAX_STREAMS = 1000

#: Of google.rpc.ErrorInfo: in whose words its reason is.
DOMAIN = "jobber"
#: Where clients look for a rich status.
DETAILS = "grpc-status-details-bin"

STATUS: Sequence[tuple[type[errors.JobberError], grpc.StatusCode]] = (
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.UnknownJob, grpc.StatusCode.NOT_FOUND),
    (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.Conflict, grpc.StatusCode.ALREADY_EXISTS),
    (errors.InvalidState, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.QuotaExceeded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.RateLimited, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Terminal, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Transient, grpc.StatusCode.UNAVAILABLE),
)

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * MAX_METADATA_BYTES),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.http2.write_buffer_size", 4 << 20),
    # Two processes on one port would share its clients at random; a taken port must be an error.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Clients ping every 20 s (protos.client); by default a server calls that abuse and ends the connection.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def grpc_server(settings: ServiceSettings) -> aio.Server:
    """A server that answers only who shows the service credential; health, and in development reflection, are open."""
    return aio.server(interceptors=[_Credential(settings), _Errors()], options=OPTIONS)


def add_health_and_reflection(
    server: aio.Server, settings: ServiceSettings, service_names: Sequence[str]
) -> health_aio.HealthServicer:
    """Serve health of `service_names` (all SERVING until `run` stops), and reflection in development."""
    health = health_aio.HealthServicer()
    for name in ("", *service_names):
        # What HealthServicer.set does, without a running loop being needed.
        health._server_status[name] = health_pb2.HealthCheckResponse.SERVING
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    if settings.mode == "development":
        names = (*service_names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    return health


def status_of(fault: errors.JobberError) -> grpc.StatusCode:
    """The status code that says the same."""
    return next((code for kind, code in STATUS if isinstance(fault, kind)), grpc.StatusCode.INTERNAL)


# Generic in the stubs only, so that they are written as text.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "aio.ServicerContext[Any, Any]"
Continuation: TypeAlias = Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]]


class _Credential(aio.ServerInterceptor):
    """Refuses calls without the service token, before a message is read."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._secret = settings.jwt_secret
        self._open = ["/grpc.health.v1.Health/"]
        if settings.mode == "development":
            self._open.append("/grpc.reflection.")

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        if details.method.startswith(tuple(self._open)) or self._shown(details):
            return await continuation(details)
        return grpc.stream_stream_rpc_method_handler(_refuse)

    def _shown(self, details: grpc.HandlerCallDetails) -> bool:
        given = [value for key, value in details.invocation_metadata or () if key == "authorization"]
        if len(given) != 1 or not isinstance(given[0], str):
            return False
        scheme, _, token = given[0].partition(" ")
        return scheme.lower() == "bearer" and is_service_token(token.strip(), self._secret)


async def _refuse(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    sentence, reason = "This call needs the service credential.", errors.Unauthenticated.code
    metrics.count_call(metrics.UNAUTHENTICATED, grpc.StatusCode.UNAUTHENTICATED.name)
    await _refuse_with(context, grpc.StatusCode.UNAUTHENTICATED, sentence, reason, {})
    yield  # An async generator, though it never gets here.


class _Errors(aio.ServerInterceptor):
    """Turns what a servicer raises into a status."""

    async def intercept_service(self, continuation: Continuation, details: grpc.HandlerCallDetails) -> "Handler | None":
        handler: Any = await continuation(details)
        if handler is None:  # An unknown method: gRPC answers UNIMPLEMENTED.
            return handler
        if handler.response_streaming:
            kind = "stream_stream" if handler.request_streaming else "unary_stream"
            behaviour = _guard_stream(details.method, getattr(handler, kind))
        else:
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
            behaviour = _guard(details.method, getattr(handler, kind))
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        made: Handler = make(
            behaviour, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )
        return made


def _guard(method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def guarded(request: Any, context: Context) -> Any:
        with metrics.grpc_call(method, context), _traced(method, context):
            try:
                return await behaviour(request, context)
            except Exception as fault:
                await _abort(method, fault, context)

    return guarded


def _guard_stream(method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    # Servicers that stream are written as async generators; those of grpc_health and reflection may be coroutines that
    # write to the context.
    async def guarded(request: Any, context: Context) -> AsyncIterator[Any]:
        with metrics.grpc_call(method, context), _traced(method, context):
            try:
                answers = behaviour(request, context)
                if hasattr(answers, "__aiter__"):
                    async for answer in answers:
                        yield answer
                else:
                    await answers
            except Exception as fault:
                await _abort(method, fault, context)

    return guarded


def _traced(method: str, context: Context) -> AbstractContextManager[object]:
    """A span in each of the caller's traces."""
    if not tracing.on():
        return nullcontext()
    return tracing.span(method.removeprefix("/"), tracing.given(context.invocation_metadata()), kind="server")


async def _abort(method: str, fault: Exception, context: Context) -> NoReturn:
    if isinstance(fault, aio.AbortError | asyncio.CancelledError):
        raise fault
    if isinstance(fault, errors.JobberError):
        seconds = fault.retry_after if isinstance(fault, errors.RateLimited) else None
        await _refuse_with(context, status_of(fault), fault.message, fault.code, {}, seconds)
    error_id = str(uuid.uuid4())
    event("bug", f"{method} failed.", level=logging.ERROR, error=fault, error_id=error_id, method=method)
    known = {"error_id": error_id}
    await _refuse_with(context, grpc.StatusCode.INTERNAL, f"Internal error {error_id}", errors.JobberError.code, known)


async def _refuse_with(
    context: Context,
    code: grpc.StatusCode,
    message: str,
    reason: str,
    known: Mapping[str, str],
    retry_after: int | None = None,
) -> NoReturn:
    """End the call with a rich status (google.rpc.Status): its code, the same reason as GraphQL's, when to come back."""
    rich = status_pb2.Status(code=code.value[0], message=message)
    rich.details.add().Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=known))
    if retry_after is not None:
        rich.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=retry_after)))
    await context.abort(code, message, trailing_metadata=((DETAILS, rich.SerializeToString()),))
