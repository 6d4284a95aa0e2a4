"""The SQL of auth."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

from psycopg.errors import UniqueViolation

from api import audit
from api.audit import Act
from api.auth.model import Role, Session, User, email_key
from api.database import Connection, Pool, connection
from jobber.errors import InvalidData, NotFound

MIGRATIONS = Path(__file__).parent / "sql"

INSERT_USER: LiteralString = """
    INSERT INTO auth.users (id, email, email_key, password_hash, role)
    VALUES (%(id)s, %(email)s, %(email_key)s, %(password_hash)s, %(role)s)
"""

#: Two services that start at once must not both make the first admin.
LOCK_BOOTSTRAP: LiteralString = "SELECT pg_advisory_xact_lock(hashtextextended('jobber auth bootstrap', 0))"

# No session for a user that was disabled, or whose password was changed, while the password was being verified.
OPEN_SESSION: LiteralString = """
    INSERT INTO auth.sessions (id, user_id, issued_at, expires_at)
    SELECT %(id)s, u.id, date_trunc('second', clock_timestamp()),
           date_trunc('second', clock_timestamp()) + make_interval(secs => %(seconds)s)
      FROM auth.users u
     WHERE u.id = %(user_id)s AND u.disabled_at IS NULL AND u.password_hash = %(password_hash)s
       FOR SHARE OF u
    RETURNING issued_at, expires_at
"""

GOOD_SESSION: LiteralString = """
    SELECT u.id::text, u.email, u.role, s.expires_at, s.expires_at - clock_timestamp()
      FROM auth.sessions s JOIN auth.users u ON u.id = s.user_id
     WHERE s.id = %(id)s AND s.user_id = %(user_id)s AND s.issued_at = %(issued_at)s AND s.expires_at = %(expires_at)s
       AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp() AND u.disabled_at IS NULL
"""

REVOKE_SESSIONS: LiteralString = """
    UPDATE auth.sessions SET revoked_at = clock_timestamp() WHERE user_id = %(user_id)s AND revoked_at IS NULL
"""

REVOKE_TOKENS: LiteralString = """
    UPDATE auth.api_tokens SET revoked_at = clock_timestamp() WHERE user_id = %(user_id)s AND revoked_at IS NULL
"""


class Store:
    """Users and sessions in PostgreSQL. Every method raises Unavailable when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add_user(self, user: User, password_hash: str, act: Act) -> None:
        """Raises InvalidData when the e-mail is taken."""
        async with connection(self._pool) as session, session.transaction():
            await _insert(session, user, password_hash)
            await audit.record(session, "auth", act)

    async def add_first_user(self, user: User, password_hash: str, act: Act) -> bool:
        """Add the user if there is none at all; answer whether it did."""
        async with connection(self._pool) as session, session.transaction():
            await session.execute(LOCK_BOOTSTRAP)
            if await _one(session, "SELECT 1 FROM auth.users LIMIT 1"):
                return False
            await _insert(session, user, password_hash)
            await audit.record(session, "auth", act)
            return True

    async def has_users(self) -> bool:
        """Whether there is any user."""
        async with connection(self._pool) as session:
            return await _one(session, "SELECT 1 FROM auth.users LIMIT 1") is not None

    async def credentials(self, email: str) -> tuple[User, str] | None:
        """The user of the e-mail, disabled or not, with the password's hash; None when not known."""
        async with connection(self._pool) as session:
            row = await _one(
                session,
                "SELECT id::text, email, role, password_hash FROM auth.users WHERE email_key = %(key)s",
                {"key": email_key(email)},
            )
        return (_user(row), str(row[3])) if row else None

    async def users(self) -> list[User]:
        """All users, oldest first."""
        async with connection(self._pool) as session:
            cursor = await session.execute("SELECT id::text, email, role FROM auth.users ORDER BY created_at, id")
            return [_user(row) for row in await cursor.fetchall()]

    async def everybody(self) -> list[tuple[User, bool]]:
        """All users, oldest first, and whether they are disabled."""
        async with connection(self._pool) as session:
            cursor = await session.execute(
                "SELECT id::text, email, role, disabled_at IS NOT NULL FROM auth.users ORDER BY created_at, id"
            )
            return [(_user(row), bool(row[3])) for row in await cursor.fetchall()]

    async def users_by_id(self, ids: Sequence[str]) -> list[User]:
        """The users of these ids; unknown ones are left out."""
        async with connection(self._pool) as session:
            cursor = await session.execute(
                "SELECT id::text, email, role FROM auth.users WHERE id = ANY (%(ids)s::uuid[])", {"ids": list(ids)}
            )
            return [_user(row) for row in await cursor.fetchall()]

    async def open_session(
        self, session_id: str, user_id: str, password_hash: str, seconds: float, act: Act
    ) -> tuple[datetime, datetime] | None:
        """Begin a session; answer when it was issued and when it expires, or None when the user may no longer log in."""
        values = {"id": session_id, "user_id": user_id, "password_hash": password_hash, "seconds": seconds}
        async with connection(self._pool) as session, session.transaction():
            row = await _one(session, OPEN_SESSION, values)
            if row:
                await audit.record(session, "auth", act)
        return (row[0], row[1]) if row else None

    async def good_session(self, session_id: str, user_id: str, issued_at: datetime, expires_at: datetime) -> Session | None:
        """The session, when it is exactly this one and good by the database's clock."""
        values = {"id": session_id, "user_id": user_id, "issued_at": issued_at, "expires_at": expires_at}
        async with connection(self._pool) as session:
            row = await _one(session, GOOD_SESSION, values)
        return Session(session_id, _user(row), row[3], row[4]) if row else None

    async def revoke_session(self, session_id: str, act: Act) -> None:
        """End the session."""
        async with connection(self._pool) as session, session.transaction():
            await session.execute(
                "UPDATE auth.sessions SET revoked_at = clock_timestamp() WHERE id = %(id)s AND revoked_at IS NULL",
                {"id": session_id},
            )
            await audit.record(session, "auth", act)

    async def note(self, act: Act) -> None:
        """Write down what changed nothing here."""
        async with connection(self._pool) as session:
            await audit.record(session, "auth", act)

    async def replace_hash(self, user_id: str, old: str, new: str) -> bool:
        """Store another hash of the same password, unless it was changed meanwhile; answer whether it did."""
        async with connection(self._pool) as session:
            cursor = await session.execute(
                "UPDATE auth.users SET password_hash = %(new)s WHERE id = %(id)s AND password_hash = %(old)s",
                {"id": user_id, "old": old, "new": new},
            )
            return cursor.rowcount == 1

    async def change_password(self, user_id: str, old: str | None, new: str, act: Act) -> bool:
        """Store another password's hash, and end all sessions and API tokens; answer whether it did.

        Not when the hash is not `old` any more (None: whatever it is).
        """
        async with connection(self._pool) as session, session.transaction():
            cursor = await session.execute(
                """UPDATE auth.users SET password_hash = %(new)s
                    WHERE id = %(id)s AND (%(old)s::text IS NULL OR password_hash = %(old)s)""",
                {"id": user_id, "old": old, "new": new},
            )
            if cursor.rowcount != 1:
                return False
            await session.execute(REVOKE_SESSIONS, {"user_id": user_id})
            await session.execute(REVOKE_TOKENS, {"user_id": user_id})
            await audit.record(session, "auth", act)
            return True

    async def disable(self, user_id: str, act: Act) -> User:
        """Let the user log in no more, and end all sessions.

        Raises NotFound.
        """
        async with connection(self._pool) as session, session.transaction():
            row = await _one(
                session,
                "UPDATE auth.users SET disabled_at = coalesce(disabled_at, clock_timestamp()) WHERE id = %(id)s "
                "RETURNING id::text, email, role",
                {"id": user_id},
            )
            if not row:
                raise NotFound("There is no such user.")
            await session.execute(REVOKE_SESSIONS, {"user_id": user_id})
            await session.execute(REVOKE_TOKENS, {"user_id": user_id})
            await audit.record(session, "auth", act)
            return _user(row)

    async def sweep(self) -> int:
        """Forget sessions that expired a day ago, and failed logins of yesterday; answer how many sessions."""
        async with connection(self._pool) as session:
            await session.execute("DELETE FROM auth.login_failures WHERE since < clock_timestamp() - interval '1 day'")
            cursor = await session.execute("DELETE FROM auth.sessions WHERE expires_at < clock_timestamp() - interval '1 day'")
            return cursor.rowcount

    async def audit(self, most: int, before: int | None) -> list[audit.Entry]:
        """The latest entries of the audit trail, newest first."""
        return await audit.page(self._pool, "auth", most, before)

    async def ping(self) -> None:
        """Answer when the database does."""
        async with connection(self._pool) as session:
            await session.execute("SELECT 1")


async def _insert(session: Connection, user: User, password_hash: str) -> None:
    values = {
        "id": user.id,
        "email": user.email,
        "email_key": email_key(user.email),
        "password_hash": password_hash,
        "role": user.role.value,
    }
    try:
        await session.execute(INSERT_USER, values)
    except UniqueViolation as fault:
        raise InvalidData("There is a user with this e-mail already.") from fault


async def _one(session: Connection, query: LiteralString, values: dict[str, Any] | None = None) -> tuple[Any, ...] | None:
    return await (await session.execute(query, values)).fetchone()


def _user(row: tuple[Any, ...]) -> User:
    return User(row[0], row[1], Role(row[2]))
