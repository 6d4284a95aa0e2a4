"""A list of jobs asks for their people and parents once, not once a job."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from api.identity import Caller
from api.jobs.context import Context, Person
from api.jobs.graphql_door import schema
from api.jobs.model import Job
from tests.unit.test_changes import JOB

NOW = datetime(2026, 11, 24, tzinfo=UTC)
JOBS = {f"j{n}": replace(JOB, id=f"j{n}", owner_id=f"u{n % 3}", parent_id=f"j{n - 1}" if n else None) for n in range(20)}


class Store:
    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def jobs(self, sees: str | None, **_: Any) -> list[Job]:
        return list(JOBS.values())

    async def jobs_by_id(self, ids: Sequence[str], sees: str | None) -> list[Job]:
        self.asked.append(sorted(ids))
        return [JOBS[id] for id in ids]


class Directory:
    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def people(self, ids: Sequence[str]) -> Mapping[str, Person]:
        self.asked.append(sorted(ids))
        return {id: Person(id, f"{id}@example.com", "MEMBER") for id in ids}


async def test_once_a_request() -> None:
    store, directory = Store(), Directory()
    services: Any = SimpleNamespace(store=store, directory=directory)
    context = Context(services, Caller("me", "me@example.com", "ADMIN", None), "http://jobs")
    result = await schema.execute_async("{ jobs { id submittedBy { email } parent { id } } }", context_value=context)
    assert result.errors is None
    assert result.data
    assert [job["parent"] and job["parent"]["id"] for job in result.data["jobs"]] == [None, *list(JOBS)[:-1]]
    assert directory.asked == [["u0", "u1", "u2"]]
    assert store.asked == [sorted(list(JOBS)[:-1])]
