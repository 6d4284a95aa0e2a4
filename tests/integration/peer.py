"""What both peers of the executor under test share: what they do wrong, and the journal of what happened."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import NoReturn

import grpc

from protos.jobber.v1 import receipt_pb2

Key = tuple[str, int]
#: What happened, to which batches, in order.
Journal = list[tuple[str, tuple[Key, ...]]]


def key_of(message: receipt_pb2.BatchKey) -> Key:
    return message.job_id, message.batch_no


@dataclass
class Faults:
    """What a peer does wrong, by method."""

    #: Answers of this status instead of doing anything.
    status: dict[str, grpc.StatusCode] = field(default_factory=dict)
    #: So many replies are lost after the work was done.
    lost: Counter[str] = field(default_factory=Counter)
    #: Calls wait before they do anything, as long as the event is clear.
    held: dict[str, threading.Event] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def before(self, method: str, context: grpc.ServicerContext) -> None:
        self.calls[method] += 1
        if method in self.held:
            self.held[method].wait(60)
        if method in self.status:
            abort(context, self.status[method])

    def after(self, method: str, context: grpc.ServicerContext) -> None:
        if self.lost[method] > 0:
            self.lost[method] -= 1
            abort(context, grpc.StatusCode.UNAVAILABLE)


def abort(context: grpc.ServicerContext, status: grpc.StatusCode) -> NoReturn:
    context.abort(status, "as the test wants it")
    raise AssertionError
