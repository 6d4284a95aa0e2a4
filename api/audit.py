"""The audit trail: who did what to which job, user, upload or token. Written in the transaction of the act itself.

Each room that has one keeps it in a table `audit` of its own schema, which only grows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, LiteralString

import msgspec

from api.database import Connection, Pool
from api.database import connection as checkout

Room = Literal["auth", "jobs"]

RECORD: Mapping[Room, LiteralString] = {
    "auth": "INSERT INTO auth.audit (actor_id, actor, action, subject, detail) VALUES (%s, %s, %s, %s, %s)",
    "jobs": "INSERT INTO jobs.audit (actor_id, actor, action, subject, detail) VALUES (%s, %s, %s, %s, %s)",
}
PAGE: Mapping[Room, LiteralString] = {
    "auth": """SELECT id, at, actor, action, subject, detail FROM auth.audit
                WHERE %(before)s::bigint IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(most)s""",
    "jobs": """SELECT id, at, actor, action, subject, detail FROM jobs.audit
                WHERE %(before)s::bigint IS NULL OR id < %(before)s ORDER BY id DESC LIMIT %(most)s""",
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts."""

    #: Lowercase UUID; None for the operator at the command line, and for who is not logged in.
    id: str | None
    #: For people: the e-mail at that time, or `operator`.
    name: str
    #: The API token that was used; None: a login.
    token_id: str | None = None


OPERATOR = Actor(None, "operator")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail."""

    number: int
    at: datetime
    actor: str
    #: `noun.verb`: `user.create`, `job.cancel`.
    action: str
    #: `noun:id`.
    subject: str
    detail: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Act:
    """What is to be written down."""

    actor: Actor
    action: str
    subject: str
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def row(self) -> list[object]:
        """The values of RECORD."""
        detail = {**self.detail, **({"apiToken": self.actor.token_id} if self.actor.token_id else {})}
        return [
            self.actor.id,
            self.actor.name,
            self.action,
            self.subject,
            msgspec.json.encode(detail).decode() if detail else None,
        ]


async def record(session: Connection, room: Room, act: Act) -> None:
    """Write it down, within the caller's transaction."""
    await session.execute(RECORD[room], act.row)


async def page(pool: Pool, room: Room, most: int, before: int | None) -> list[Entry]:
    """The latest entries, newest first; `before` is the number of the last one seen."""
    async with checkout(pool) as session:
        cursor = await session.execute(PAGE[room], {"before": before, "most": most})
        return [Entry(*row) for row in await cursor.fetchall()]
