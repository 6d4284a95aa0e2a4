"""Garbage in the transport: kept, counted, shown to admins, and in nobody's way."""

import asyncio

import pytest

from jobber.cli.client import Client
from jobber.errors import Forbidden
from jobber.ids import uuid7
from jobber.settings import TransportSettings
from jobber.transport import Message
from jobber.transport.connect import open_publisher
from tests.support.system import System, ended, until

LETTERS = "{ deadLetters(first: 1000) { edges { node { topic body reason count firstAt lastAt } } } }"
CREATE = 'mutation { createUser(input: { email: "%s", password: "a long enough password" }) { id } }'


def publish(system: System, *messages: Message) -> None:
    async def send() -> None:
        url = system.state["transport"]
        settings = (
            TransportSettings(pulsar_service_url=url)
            if url.startswith("pulsar")
            else TransportSettings(transport="postgres", transport_database_url=url)
        )
        publisher = await open_publisher(settings)
        await publisher.publish(messages)
        await publisher.close()

    asyncio.run(send())


def letters(client: Client) -> dict[str, tuple[str, str, int]]:
    nodes = [edge["node"] for edge in client.ask(LETTERS)["deadLetters"]["edges"]]
    return {node["body"]: (node["topic"], node["reason"], int(node["count"])) for node in nodes}


def test_garbage_is_kept_with_its_reason(system: System) -> None:
    mark, forged = uuid7(), uuid7()
    ticket = f'{{"job_id": "{forged}", "batch_no": 3, "dispatch_no": 1}}'.encode()
    garbage = [Message("LoadProducts.fast", f"garbage {mark}".encode())] * 2
    publish(system, *garbage, Message("LoadProducts.plan", f"no plan {mark}".encode()), Message("LoadProducts.bulk", ticket))
    expected = {
        f"garbage {mark}": ("LoadProducts.fast", "It is no dispatch.", 2),
        f"no plan {mark}": ("LoadProducts.plan", "It is no dispatch of a plan.", 1),
        f"{forged}:3": ("unknown", "There is no such batch.", 1),
    }
    until(lambda: expected.items() <= letters(system.client).items(), what=f"the keeping of {expected}")
    job = system.client.execute("LoadProducts", {"name": "after the garbage", "price": 1})
    assert ended(system.client, job).loaded == 1


def test_only_admins_see_it(system: System) -> None:
    email = f"{uuid7()}@example.com"
    system.client.ask(CREATE % email, service=system.client.auth)
    with pytest.raises(Forbidden):
        letters(system.login(email, "a long enough password"))
