"""The SQL of API tokens. Only their hashes are stored: who reads the table has no token."""

from typing import LiteralString

from api import audit
from api.audit import Act
from api.auth.model import ApiToken, Role, Session, User
from api.database import Pool, connection
from jobber.errors import InvalidData, NotFound

#: Tokens of one user that are not revoked.
MAX_TOKENS = 100

# The user's row is held, so that two at once do not exceed the limit together, and no disabled user gets one.
HOLD_USER: LiteralString = "SELECT 1 FROM auth.users WHERE id = %(user_id)s AND disabled_at IS NULL FOR NO KEY UPDATE"

INSERT_TOKEN: LiteralString = """
    INSERT INTO auth.api_tokens (id, user_id, name, scopes, sha256, expires_at)
    SELECT %(id)s, %(user_id)s, %(name)s, %(scopes)s, %(sha256)s, %(expires_at)s
     WHERE (SELECT count(*) FROM auth.api_tokens WHERE user_id = %(user_id)s AND revoked_at IS NULL) < %(most)s
"""

GOOD_TOKEN: LiteralString = """
    SELECT t.id::text, u.id::text, u.email, u.role, t.scopes, t.expires_at, t.expires_at - clock_timestamp(),
           t.last_used_at IS NULL OR t.last_used_at < clock_timestamp() - interval '1 minute'
      FROM auth.api_tokens t JOIN auth.users u ON u.id = t.user_id
     WHERE t.sha256 = %(sha256)s AND t.revoked_at IS NULL AND u.disabled_at IS NULL
       AND (t.expires_at IS NULL OR t.expires_at > clock_timestamp())
"""


class TokenStore:
    """API tokens in PostgreSQL. Every method raises Unavailable when the database does not answer."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, token: ApiToken, user_id: str, sha256: bytes, act: Act) -> None:
        """Raises InvalidData for one token too many, or when it has expired by the database's clock."""
        values = {
            "id": token.id,
            "user_id": user_id,
            "name": token.name,
            "scopes": list(token.scopes),
            "sha256": sha256,
            "expires_at": token.expires_at,
            "most": MAX_TOKENS,
        }
        async with connection(self._pool) as session, session.transaction():
            cursor = await session.execute("SELECT %(at)s::timestamptz <= clock_timestamp()", {"at": token.expires_at})
            row = await cursor.fetchone()
            if row and row[0]:
                raise InvalidData("The token would have expired already.")
            await session.execute(HOLD_USER, {"user_id": user_id})
            if (await session.execute(INSERT_TOKEN, values)).rowcount == 0:
                raise InvalidData(f"A user has at most {MAX_TOKENS} tokens; revoke one first.")
            await audit.record(session, "auth", act)

    async def of_user(self, user_id: str) -> list[ApiToken]:
        """The user's tokens that are not revoked, oldest first."""
        async with connection(self._pool) as session:
            cursor = await session.execute(
                """SELECT id::text, name, scopes, expires_at, last_used_at FROM auth.api_tokens
                    WHERE user_id = %s AND revoked_at IS NULL ORDER BY created_at, id""",
                [user_id],
            )
            return [ApiToken(row[0], row[1], tuple(row[2]), row[3], row[4]) for row in await cursor.fetchall()]

    async def good(self, sha256: bytes) -> Session | None:
        """Whose token it is, when it is good by the database's clock; notes that it was used."""
        async with connection(self._pool) as session:
            row = await (await session.execute(GOOD_TOKEN, {"sha256": sha256})).fetchone()
            if row is None:
                return None
            if row[7]:  # Once a minute: a write at every request would cost more than the request.
                await session.execute("UPDATE auth.api_tokens SET last_used_at = clock_timestamp() WHERE id = %s", [row[0]])
        return Session(row[0], User(row[1], row[2], Role(row[3])), row[5], row[6], frozenset(row[4]))

    async def revoke(self, token_id: str, owner_id: str | None, act: Act) -> None:
        """End the token, which is `owner_id`'s (None: anybody's). Raises NotFound."""
        async with connection(self._pool) as session, session.transaction():
            cursor = await session.execute(
                """UPDATE auth.api_tokens SET revoked_at = coalesce(revoked_at, clock_timestamp())
                    WHERE id = %(id)s AND (%(owner)s::uuid IS NULL OR user_id = %(owner)s)""",
                {"id": token_id, "owner": owner_id},
            )
            if cursor.rowcount == 0:
                raise NotFound("There is no such token, or it is not yours.")
            await audit.record(session, "auth", act)
