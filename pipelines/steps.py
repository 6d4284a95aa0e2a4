"""The steps of the load dataflow, each from one state of a batch to the next. What goes wrong travels as a value."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import polars as pl

from jobber import faults
from jobber.blobs.store import Blobs
from jobber.contract import Contract
from jobber.errors import NotFound, Unavailable
from jobber.log import event
from jobber.model import BatchKey
from operators import arrow, rejects
from operators.check import check
from operators.decode import decode
from operators.enrich import enrich
from pipelines import wire
from pipelines.connectors.services import Jobs
from pipelines.retry import Refused
from pipelines.work import Batch, Failed, Flight, Item, Met, Prepared, Read, Taken

S = TypeVar("S")


class Steps:
    """What the steps need: who hands batches out, and where inputs are."""

    def __init__(self, jobs: Jobs, blobs: Blobs) -> None:
        self._jobs = jobs
        self._blobs = blobs

    def claim(self, flight: Flight) -> Flight:
        """Count an attempt at every batch of the flight, durably, and take those that still have to be loaded."""
        faults.point("load.before_claim")
        tickets = []
        for delivery in flight.deliveries:
            ticket = wire.ticket_of(delivery)
            if ticket is None:
                shown = delivery.body[:200].decode(errors="backslashreplace")
                event("message_refused", "A message is no dispatch.", level=logging.WARNING, topic=delivery.topic, body=shown)
            else:
                tickets.append(ticket)
        if not tickets:
            return flight
        try:
            batches = self._jobs.claim(tickets)
        except Unavailable as fault:
            event("unavailable", fault.message, level=logging.WARNING, what="jobs")
            return replace(flight, returned=True)
        except Refused as fault:
            # A forged message; together with others it must not take them along.
            if len(tickets) > 1:
                return self._one_by_one(flight)
            event("message_refused", fault.message, level=logging.WARNING, job=tickets[0].job_id)
            return flight
        faults.point("load.after_claim")
        return replace(flight, items=batches)

    def read(self, flight: Flight) -> Flight:
        """Get the bytes of each batch, and see that they are those that were planned."""
        return _each(flight, Batch, self._read)

    def decode(self, flight: Flight) -> Flight:
        """Take the records apart."""
        return _each(flight, Read, _decode)

    def check(self, flight: Flight) -> Flight:
        """Hold the records against the contract."""
        return _each(flight, Taken, _check)

    def enrich(self, flight: Flight) -> Flight:
        """Make rows of the records, and put them in the form in which they are written."""
        return _each(flight, Met, _enrich)

    def _one_by_one(self, flight: Flight) -> Flight:
        parts = [self.claim(Flight([delivery])) for delivery in flight.deliveries]
        if any(part.returned for part in parts):
            return replace(flight, returned=True)
        return replace(flight, items=[item for part in parts for item in part.items])

    def _read(self, batch: Batch) -> Item:
        source = batch.source
        try:
            data = source.inline
            if data is None:
                data = self._blobs.read(source.blob_key, source.offset, source.length)
        except NotFound as fault:
            return Failed(batch.key, "INPUT_MISSING", fault.message)
        if hashlib.sha256(data).digest() != batch.sha256:
            return Failed(
                batch.key, "INPUT_CHANGED", f"batch {batch.key.batch_no} is not what was planned: its input was changed."
            )
        return Read(batch, data)


def _decode(item: Read) -> Item:
    batch = item.batch
    contract = Contract.of(batch.spec.kind.contract)
    decoded = decode(item.data, batch.spec.layout, contract, batch.first_row)
    records = decoded.records.height + decoded.faults["row_no"].n_unique()
    if records != batch.rows:
        raise AssertionError(f"decoded {records} records of {batch.rows}")
    return Taken(batch, decoded)


def _check(item: Taken) -> Item:
    checked = check(item.decoded.records, Contract.of(item.batch.spec.kind.contract))
    return Met(item.batch, checked.kept, item.decoded, pl.concat([item.decoded.faults, checked.faults]))


def _enrich(item: Met) -> Item:
    spec = item.batch.spec
    checked = enrich(item.kept, spec.args, spec.lookups)
    broken = pl.concat([item.faults, checked.faults])
    rows, computes = checked.kept.height, spec.kind.target is None
    write = arrow.to_block if computes else arrow.to_ipc
    return Prepared(
        item.batch.key,
        spec.kind.target,
        rows,
        broken["row_no"].n_unique(),
        rejects.to_block(broken, item.decoded.raw),
        write(checked.kept) if rows else b"",
    )


def _each(flight: Flight, state: type[S], step: Callable[[S], Item]) -> Flight:
    """The step, for every item in its state. A bug in it (or in a job type) fails the batch's job, not the executor."""
    return replace(flight, items=[_guarded(item, state, step) for item in flight.items])


def _guarded(item: Item, state: type[S], step: Callable[[S], Item]) -> Item:
    if not isinstance(item, state):
        return item
    try:
        return step(item)
    except Unavailable:
        raise
    except Exception as fault:
        key = _key(item)
        event("batch_failed", f"{step.__name__} failed.", level=logging.ERROR, error=fault, job=key.job_id, batch=key.batch_no)
        return Failed(
            key,
            "INTERNAL",
            f"batch {key.batch_no} cannot be loaded: {type(fault).__name__} in step {step.__name__.strip('_')}.",
        )


def _key(item: Item) -> BatchKey:
    return item.batch.key if isinstance(item, Read | Taken | Met) else item.key


def items_of(flight: Flight, kind: type[S]) -> Sequence[S]:
    """The flight's items in that state."""
    return [item for item in flight.items if isinstance(item, kind)]
