"""The steps of the load dataflow, each from one state of a batch to the next. What goes wrong travels as a value."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import polars as pl

from jobber import faults, tracing
from jobber.blobs.store import Blobs
from jobber.digest import digest_of
from jobber.errors import NotFound, Unavailable
from jobber.log import event
from jobber.model import BatchKey
from jobber.transport import Delivery
from operators.pack import unpack
from pipelines import metrics, wire
from pipelines.connectors.jobs import Jobs
from pipelines.isolation import Isolation
from pipelines.prepare import meet, prepare, take
from pipelines.process import end_now
from pipelines.retry import Refused
from pipelines.room import Room
from pipelines.signs import SignsOfLife, Superseded
from pipelines.together import prepare_together
from pipelines.work import Batch, Failed, Flight, Item, Met, Read, Taken

S = TypeVar("S")

#: Bytes of input that travel together: about one large batch, or all the small ones that waited.
FLIGHT_BYTES = 8 << 20


class Steps:
    """What the steps need: who hands batches out, where inputs are, how much room there is, and where suspects are read."""

    def __init__(self, jobs: Jobs, blobs: Blobs, room: Room, isolation: Isolation, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._room = room
        self._isolation = isolation
        self._stopping = stopping

    def claim(self, flight: Flight) -> list[Flight]:
        """Count an attempt at every batch of the flight, durably, and take those that still have to be loaded.

        Answers the flight that begins; the room keeps what is too large to travel with it, and what may not.
        """
        if flight.claimed:
            return [flight]
        spans = _spans(flight.deliveries)
        try:
            with _timed("claim"), tracing.span("claim", [parent for span in spans.values() for parent in span.parents]):
                faults.point("load.before_claim")
                batches = self._claimed(flight.deliveries)
                for batch in batches:
                    if isinstance(batch, Batch):
                        metrics.CLAIMED.labels(str(batch.suspect).lower()).inc()
                        key = batch.key
                        event(
                            "claimed",
                            "A batch was claimed.",
                            level=logging.DEBUG,
                            job=key.job_id,
                            batch=key.batch_no,
                            attempt=batch.attempt,
                        )
                faults.point("load.after_claim")
        except Unavailable as fault:
            event("unavailable", fault.message, level=logging.WARNING, what="the jobs service")
            return [replace(flight, returned=True, spans=spans)]
        flights = _with_spans(split(flight.deliveries, batches), spans)
        if flights[0].alone:
            # The room that was taken is given back: it begins when nothing else is in flight.
            self._room.give()
            self._room.keep(flights)
            return []
        self._room.keep(flights[1:])
        return flights[:1]

    def _claimed(self, deliveries: Sequence[Delivery]) -> Sequence[Batch | Failed]:
        """Raises Unavailable."""
        tickets = []
        for delivery in deliveries:
            ticket = wire.ticket_of(delivery)
            if ticket is None:
                shown = delivery.body[:200].decode(errors="backslashreplace")
                event("message_refused", "A message is no dispatch.", level=logging.WARNING, topic=delivery.topic, body=shown)
                self._jobs.refuse(delivery, "It is no dispatch.")
            else:
                tickets.append(ticket)
        return self._handed_out(list(dict.fromkeys(tickets)))

    def _handed_out(self, tickets: Sequence[wire.Ticket]) -> Sequence[Batch | Failed]:
        try:
            return self._jobs.claim(tickets) if tickets else []
        except Refused as fault:
            # A forged message must not take along what was received with it.
            if len(tickets) > 1:
                return [batch for ticket in tickets for batch in self._handed_out([ticket])]
            event("message_refused", fault.message, level=logging.WARNING, job=tickets[0].job_id)
            return []

    def read(self, flight: Flight) -> Flight:
        """Get the bytes of each batch, and see that they are those that were planned."""
        return _each("read", flight, Batch, self._read)

    def decode(self, flight: Flight) -> Flight:
        """Take the records apart.

        A suspect is made ready in a process of its own, and small batches in company; those pass the next steps by.
        """
        if any(isinstance(item, Read) and item.batch.suspect for item in flight.items):
            return self._isolated(flight)
        if len(flight.items) > 1 and not flight.returned:
            with _timed("together"), tracing.span("together", flight.traces, batches=len(flight.items)):
                flight = replace(flight, items=prepare_together(flight.items))
        return _each("decode", flight, Read, take)

    def _isolated(self, flight: Flight) -> Flight:
        """This may take minutes: jobs is told that it goes on, and it ends when nobody waits for it any more."""
        tickets = [ticket for delivery in flight.deliveries if (ticket := wire.ticket_of(delivery))]
        signs = SignsOfLife(lambda: self._jobs.renew(tickets), self._stopping)
        try:
            return _each("isolate", flight, Read, lambda read: self._isolation.prepare(read, signs.give))
        except Superseded:
            event("superseded", "Nobody waits for this suspect any more.", batches=len(flight.items))
            return replace(flight, items=[])

    def check(self, flight: Flight) -> Flight:
        """Hold the records against the contract."""
        return _each("check", flight, Taken, meet)

    def enrich(self, flight: Flight) -> Flight:
        """Make rows of the records, and put them in the form in which they are written."""
        return _each("enrich", flight, Met, prepare)

    def _read(self, batch: Batch) -> Item:
        source = batch.source
        try:
            data = source.inline
            if data is None:
                data = self._blobs.read(source.blob_key, source.offset, source.length)
        except NotFound as fault:
            return Failed(batch.key, "INPUT_MISSING", fault.message)
        if digest_of(data) != batch.digest:
            why = f"batch {batch.key.batch_no} is not what was planned: its input has changed since."
            return Failed(batch.key, "CHANGED", why)
        return Read(batch, unpack(data) if batch.spec.layout.packed else data)


def _spans(deliveries: Sequence[Delivery]) -> dict[BatchKey, tracing.Span]:
    """A span for each batch that is asked for, in the trace of its job."""
    if not tracing.on():
        return {}
    spans = {}
    for delivery in deliveries:
        ticket, parent = wire.ticket_of(delivery), delivery.properties.get(tracing.HEADER)
        if ticket and parent and ticket.key not in spans:
            spans[ticket.key] = tracing.begin(
                "batch", [parent], kind="consumer", job=ticket.job_id, batch=ticket.batch_no, dispatch=ticket.dispatch_no
            )
    return spans


def _with_spans(flights: list[Flight], spans: dict[BatchKey, tracing.Span]) -> list[Flight]:
    """The flights with their batches' spans; those of batches that need no work have come to their end."""
    if not spans:
        return flights
    taken = [
        replace(flight, spans={item.key: spans.pop(item.key) for item in flight.items if item.key in spans})
        for flight in flights
    ]
    Flight([], spans=spans).end("superseded")
    return taken


def split(deliveries: Sequence[Delivery], batches: Sequence[Batch | Failed]) -> list[Flight]:
    """Flights of about FLIGHT_BYTES, in the batches' order; each suspect has one of its own, after all others.

    Every delivery is in one flight: with its batch, or in the first one when its batch needs no work.
    """
    loads: list[list[Batch | Failed]] = [[]]
    suspects: list[list[Batch | Failed]] = []
    size = 0
    for batch in batches:
        if isinstance(batch, Failed):
            loads[-1].append(batch)
        elif batch.suspect:
            suspects.append([batch])
        else:
            if size and size + batch.size > FLIGHT_BYTES:
                loads.append([])
                size = 0
            loads[-1].append(batch)
            size += batch.size
    groups = [group for group in (*loads, *suspects) if group] or [[]]
    place = {batch.key: index for index, group in enumerate(groups) for batch in group}
    brought: list[list[Delivery]] = [[] for _ in groups]
    for delivery in deliveries:
        ticket = wire.ticket_of(delivery)
        brought[place.get(ticket.key, 0) if ticket else 0].append(delivery)
    return [Flight(brought[index], group, claimed=True) for index, group in enumerate(groups)]


def _each(name: str, flight: Flight, state: type[S], step: Callable[[S], Item]) -> Flight:
    """The step, for every item in its state."""
    if flight.returned:
        return flight
    try:
        with _timed(name):
            return replace(flight, items=[_guarded(name, item, state, step, flight.spans) for item in flight.items])
    except Unavailable as fault:
        what = "the isolated process" if name == "isolate" else "the inputs"
        event("unavailable", fault.message, level=logging.WARNING, what=what)
        return replace(flight, items=[], returned=True)


def _guarded(name: str, item: Item, state: type[S], step: Callable[[S], Item], spans: Mapping[BatchKey, tracing.Span]) -> Item:
    """A bug in a step, or in a job type, fails the batch and so its job; the executor goes on."""
    if not isinstance(item, state):
        return item
    try:
        with tracing.span(name, spans.get(item.key, tracing.NONE).parents):
            return step(item)
    except (Unavailable, Superseded):
        raise
    except MemoryError:
        # A batch that wants more than there is is not to take others along: with its next attempts it becomes a suspect.
        event(
            "failed", f"The step {name} ran out of memory.", level=logging.ERROR, job=item.key.job_id, batch=item.key.batch_no
        )
        end_now()
    # What Polars panics with is no Exception.
    except (Exception, pl.exceptions.PanicException) as fault:
        key = item.key
        event("batch_failed", f"The step {name} failed.", level=logging.ERROR, error=fault, job=key.job_id, batch=key.batch_no)
        why = (
            f"batch {key.batch_no} cannot be loaded: {type(fault).__name__} in the step {name}; the executor's log says where."
        )
        return Failed(key, "ENRICH" if name == "enrich" else "INTERNAL", why)


@contextmanager
def _timed(name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        metrics.STEP_SECONDS.labels(name).inc(time.perf_counter() - began)
