"""Failed logins are counted by account and by address, in the database, so that all replicas count together.

An attempt counts before the password is looked at: attempts that run at once must not all find room for one more.
"""

import hashlib
from typing import LiteralString

from api.auth.model import email_key
from api.database import Pool, connection
from jobber.errors import RateLimited

# In the order of the keys: two attempts at once must not wait for each other.
COUNT: LiteralString = """
    INSERT INTO auth.login_failures AS f (key, failures, since)
    SELECT k, 1, clock_timestamp() FROM unnest(%(keys)s::bytea[]) AS asked(k) ORDER BY k
    ON CONFLICT (key) DO UPDATE
       SET failures = CASE WHEN f.since < clock_timestamp() - make_interval(secs => %(window)s) THEN 1
                           ELSE least(f.failures + 1, 1000000000) END,
           since = CASE WHEN f.since < clock_timestamp() - make_interval(secs => %(window)s) THEN clock_timestamp()
                        ELSE f.since END
    RETURNING key, failures, extract(epoch FROM since - clock_timestamp())::float8 + %(window)s
"""
# What was right is no failure; the account starts anew, the address may still be guessing at others.
FORGIVE: LiteralString = """
    WITH held AS (SELECT key FROM auth.login_failures WHERE key = ANY (%(keys)s::bytea[]) ORDER BY key FOR UPDATE)
    UPDATE auth.login_failures f
       SET failures = CASE WHEN f.key = %(account)s THEN 0 ELSE greatest(f.failures - 1, 0) END
      FROM held WHERE f.key = held.key
"""


class Limiter:
    """How many logins may fail."""

    def __init__(self, pool: Pool, *, per_account: int, per_address: int, window: float) -> None:
        self._pool = pool
        self._window = window
        self._per_account = per_account
        self._per_address = per_address

    async def attempt(self, email: str, address: str) -> None:
        """Count an attempt.

        Raises RateLimited when there were too many before; the sentence is the same whether the account exists.
        """
        limits = self._limits(email, address)
        if not limits:
            return
        async with connection(self._pool) as session:
            cursor = await session.execute(COUNT, {"keys": list(limits), "window": self._window})
            counted = await cursor.fetchall()
        waits = [left for key, failures, left in counted if failures > limits[bytes(key)]]
        if waits:
            seconds = max(1, round(max(waits)))
            raise RateLimited(f"Too many failed logins; try again in {seconds} seconds.", retry_after=seconds)

    async def succeeded(self, email: str, address: str) -> None:
        """The attempt was no failure."""
        limits = self._limits(email, address)
        if limits:
            async with connection(self._pool) as session:
                await session.execute(FORGIVE, {"keys": list(limits), "account": _key("account", email_key(email))})

    def _limits(self, email: str, address: str) -> dict[bytes, int]:
        pairs = {
            _key("account", email_key(email)): self._per_account,
            _key("address", address): self._per_address if address else 0,
        }
        return {key: limit for key, limit in pairs.items() if limit}


def _key(kind: str, what: str) -> bytes:
    """Of a fixed size, whatever was sent for an e-mail."""
    return hashlib.sha256(f"{kind}\0{what}".encode("utf-8", "surrogatepass")).digest()
