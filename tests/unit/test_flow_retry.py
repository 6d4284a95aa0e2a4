"""Which failures of a call are tried again, for how long, and what becomes of the others."""

import threading
import time

import grpc
import pytest

from jobber.errors import Unavailable
from pipelines import retry as module
from pipelines.retry import REFUSALS, TRANSIENT, Refused, retry


class Failure(grpc.RpcError):
    def __init__(self, status: grpc.StatusCode) -> None:
        self.status = status

    def code(self) -> grpc.StatusCode:
        return self.status

    def details(self) -> str:
        return "why"


class Call:
    def __init__(self, *failures: grpc.StatusCode) -> None:
        self.failures, self.times = list(failures), 0

    def __call__(self) -> str:
        self.times += 1
        if self.failures:
            raise Failure(self.failures.pop(0))
        return "done"


@pytest.mark.parametrize("status", sorted(TRANSIENT, key=str))
def test_what_may_pass_is_tried_again(status: grpc.StatusCode) -> None:
    call = Call(status, status)
    assert retry("Call", call, threading.Event()) == "done"
    assert call.times == 3


@pytest.mark.parametrize("status", [status for status in grpc.StatusCode if status not in TRANSIENT])
def test_what_will_not_pass_is_asked_once(status: grpc.StatusCode) -> None:
    call = Call(status)
    with pytest.raises(Refused if status in REFUSALS else Unavailable, match=f"{status.name}: why"):
        retry("Call", call, threading.Event())
    assert call.times == 1


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    call, began = Call(*[grpc.StatusCode.UNAVAILABLE] * 1000), time.monotonic()
    with pytest.raises(Unavailable):
        retry("Call", call, threading.Event())
    assert 0.3 <= time.monotonic() - began < 1
    assert 3 <= call.times <= 8


def test_stopping_ends_patience_after_one_more_try() -> None:
    stopping, call = threading.Event(), Call(*[grpc.StatusCode.UNAVAILABLE] * 1000)
    threading.Timer(0.1, stopping.set).start()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        retry("Call", call, stopping)
    assert time.monotonic() - began < 1


def test_any_other_exception_is_a_bug() -> None:
    def call() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        retry("Call", call, threading.Event())
