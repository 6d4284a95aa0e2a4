"""Traces: one for each job, from its submission to its last receipt, sent by OTLP over HTTP.

    POST /graphql ── submit                                                                     jobs
                       ├─ dispatch (a plan) ── plan ── claim, scan, record                      executor
                       ├─ dispatch (a batch) ── batch ─┬─ claim ── …/Claim                      executor, jobs
                       │                               ├─ read, decode, check, enrich           executor
                       │                               ├─ send ── …/Load ── commit ── COPY      products
                       │                               └─ acknowledge ── …/Acknowledge          jobs
                       └─ …

Its beginning is stored with the job's row, so that whoever dispatches the job's batches later goes on with the same trace. What
is done for several jobs at once, a group of small batches for one, has a span in the trace of each.

Off, and the SDK not even imported, unless `configure` is given an endpoint. It never fails and never waits for the collector.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext, Tracer

#: The header of https://www.w3.org/TR/trace-context/, in HTTP, in gRPC and in messages.
HEADER = "traceparent"
#: All of them, when a gRPC call is for several traces: there can be only one of the header above.
MORE = "jobber-traceparents"
_SHAPE = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
#: Traces of one gRPC call at most: its metadata may have 8 KiB.
MOST_PARENTS = 32
#: Seconds that the end of a process waits for the collector.
FLUSH_WITHIN = 3.0

Kind = Literal["internal", "server", "client", "producer", "consumer"]

_provider: "TracerProvider | None" = None
_tracer: "Tracer | None" = None


class Span:
    """A piece of work in one trace or several; in none, when nothing is traced."""

    __slots__ = ("_spans",)

    def __init__(self, spans: Sequence["OtelSpan"] = ()) -> None:
        self._spans = spans

    @property
    def parents(self) -> tuple[str, ...]:
        """What work that belongs to it, here or elsewhere, is given as its parents."""
        contexts = [span.get_span_context() for span in self._spans]
        return tuple(f"00-{seen.trace_id:032x}-{seen.span_id:016x}-{seen.trace_flags:02x}" for seen in contexts)

    def set(self, **attributes: str | int) -> None:
        """Tell more of it."""
        for span in self._spans:
            for name, value in attributes.items():
                span.set_attribute(f"jobber.{name}", value)

    def fail(self, why: str) -> None:
        """It did not succeed."""
        for span in self._spans:
            from opentelemetry.trace import StatusCode

            span.set_status(StatusCode.ERROR, why[:200])

    def end(self) -> None:
        """It has come to its end."""
        for span in self._spans:
            span.end()


NONE = Span()
_current: ContextVar[Span] = ContextVar("span", default=NONE)


def configure(service: str, endpoint: str | None) -> None:
    """Send what this process does to the collector at `endpoint`, http://host:4318 for one; None: trace nothing.

    The SDK's other OTEL_ variables are honoured: sampling, headers, resource attributes.
    """
    global _provider, _tracer
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    _provider = TracerProvider(resource=Resource.create({"service.name": f"jobber-{service}"}), shutdown_on_exit=False)
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    _tracer = _provider.get_tracer("jobber")


def close() -> None:
    """Send what is left, for a few seconds at most."""
    global _provider, _tracer
    provider, _provider, _tracer = _provider, None, None
    if provider is not None:
        with contextlib.suppress(Exception):
            provider.force_flush(int(FLUSH_WITHIN * 1000))


def on() -> bool:
    """Whether anything is traced."""
    return _tracer is not None


def begin(name: str, parents: Sequence[str], *, root: bool = False, kind: Kind = "internal", **attributes: str | int) -> Span:
    """A span in the trace of each parent; without any, in a new trace when it is a `root`, else in none. To be ended."""
    if _tracer is None:
        return NONE
    from opentelemetry import trace

    contexts = [context for context in map(_context, dict.fromkeys(parents)) if context is not None]
    told = {f"jobber.{key}": value for key, value in attributes.items()}
    kinds = trace.SpanKind[kind.upper()]
    found = [
        _tracer.start_span(name, trace.set_span_in_context(trace.NonRecordingSpan(context)), kinds, told)
        for context in contexts
    ]
    if not found and root:
        found = [_tracer.start_span(name, None, kinds, told)]
    return Span(found)


@contextmanager
def span(
    name: str,
    parents: Sequence[str] | None = None,
    *,
    root: bool = False,
    kind: Kind = "internal",
    **attributes: str | int,
) -> Iterator[Span]:
    """A span for the block, which is the current one within it; without `parents` it belongs to the current one."""
    if _tracer is None:
        yield NONE
        return
    before = _current.get()
    made = begin(name, before.parents if parents is None else parents, root=root, kind=kind, **attributes)
    _current.set(made)
    try:
        yield made
    except BaseException as fault:
        made.fail(type(fault).__name__)
        raise
    finally:
        # Not by a token: an async generator may be ended from another context.
        _current.set(before)
        made.end()


def current() -> tuple[str, ...]:
    """The parents for what the current span causes elsewhere."""
    return _current.get().parents


def parent() -> str | None:
    """The first of them, to be kept; None when nothing is traced."""
    return next(iter(current()), None)


def metadata() -> tuple[tuple[str, str], ...]:
    """The same for a gRPC call."""
    parents = () if _tracer is None else current()[:MOST_PARENTS]
    if len(parents) > 1:
        return (HEADER, parents[0]), (MORE, ",".join(parents))
    return tuple((HEADER, parent) for parent in parents)


def given(headers: object) -> list[str]:
    """The parents among the metadata of a gRPC call: pairs of name and value."""
    found = {name: value for name, value in headers if name in (HEADER, MORE)} if isinstance(headers, tuple | list) else {}
    return str(found.get(MORE) or found.get(HEADER) or "").split(",")


def properties(parents: Sequence[str]) -> Mapping[str, str]:
    """The same for a message, which belongs to one trace."""
    return {HEADER: parents[0]} if parents else {}


def trace_ids() -> list[str]:
    """The current traces, for logs."""
    return [] if _tracer is None else [parent.split("-")[1] for parent in current()]


def _context(parent: str) -> "SpanContext | None":
    """What a header says; None for what is none: it may come from anywhere."""
    from opentelemetry.trace import SpanContext, TraceFlags

    found = _SHAPE.fullmatch(parent)
    if found is None:
        return None
    context = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=TraceFlags(int(found[3], 16)))
    return context if context.is_valid else None
