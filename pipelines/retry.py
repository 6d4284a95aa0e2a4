"""Calls that may be repeated: with a growing delay and jitter, for as long as a short outage lasts."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import grpc

from jobber.errors import Terminal, Unavailable
from pipelines import metrics

T = TypeVar("T")

#: What a repetition may cure.
TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
    }
)
#: What is wrong with the call itself. All else is wrong with a service (INTERNAL) or a deployment (UNAUTHENTICATED): a call
#: that fails so is not repeated at once, but what it was for is not lost.
REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.ALREADY_EXISTS,
    }
)
FIRST_DELAY, LONGEST_DELAY = 0.05, 2.0
#: Seconds; a longer outage is the transport's affair.
PATIENCE = 20.0


class Refused(Terminal):
    """The service refuses the call, and would refuse it again."""


def retry(method: str, call: Callable[[], T], stopping: threading.Event) -> T:
    """What `call` of `method` answers, tried again for PATIENCE seconds.

    Raises Unavailable when it never did, or when the process stops meanwhile; Refused when the call itself is wrong.
    """
    deadline, delay = time.monotonic() + PATIENCE, FIRST_DELAY
    while True:
        try:
            with metrics.call(method):
                return call()
        except grpc.RpcError as fault:
            code, details = fault.code(), fault.details()
            if code in REFUSALS:
                raise Refused(f"{code.name}: {details}") from fault
            if code not in TRANSIENT or time.monotonic() > deadline or stopping.is_set():
                raise Unavailable(f"{code.name}: {details}") from fault
        stopping.wait(delay * (0.5 + random.random()))
        delay = min(delay * 2, LONGEST_DELAY)
