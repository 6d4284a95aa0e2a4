"""The Pulsar transport's publisher, where no broker is needed."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pulsar
import pytest

from jobber.errors import Unavailable
from jobber.transport import Message
from jobber.transport.pulsar import PulsarPublisher

MESSAGES = [Message("LoadProducts.fast", b"1"), Message("LoadProducts.bulk", b"2")]


async def test_a_refusal_is_raised_and_one_that_comes_too_late_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    publisher = PulsarPublisher("pulsar://127.0.0.1:1", "public/default")

    def refused(messages: Sequence[Message], callback: Any) -> None:
        callback(pulsar.Result.AlreadyClosed, None)

    def refused_and_broken(messages: Sequence[Message], callback: Any) -> None:
        # The first producer is cut off with its message, and the second cannot be made.
        callback(pulsar.Result.AlreadyClosed, None)
        raise pulsar.ConnectError

    for send, words in ((refused, "did not take"), (refused_and_broken, "does not answer")):
        monkeypatch.setattr(publisher, "_send", send)
        with pytest.raises(Unavailable, match=words):
            await publisher.publish(MESSAGES)
    await asyncio.sleep(0)
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []
    await publisher.close()
