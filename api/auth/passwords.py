"""Passwords: hashed with argon2id, in threads of their own because that takes 40 ms of a core.

OWASP's parameters (19 MiB, two passes, one lane); hashes of bcrypt, imported from elsewhere, are verified and replaced at the
next login.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import argon2
import bcrypt

from jobber.errors import InvalidData, Unavailable

#: ASVS 6.2.1 and 6.2.9: at least 8 characters, and 64 or more have to be possible.
MIN_CHARS = 8
MAX_BYTES = 1 << 10
#: bcrypt reads no further; those who imported hashes made them of so much.
BCRYPT_BYTES = 72
#: Checks that wait for a thread; at 60 a second a longer queue only makes everybody time out.
MAX_WAITING = 128

#: The most common of eight characters and more (shorter ones are refused anyway), from the lists of leaked passwords.
_COMMON = """
    password password1 password12 password123 password1234 passw0rd p@ssw0rd p@ssword pa$$word passwort motdepasse contraseña
    12345678 123456789 1234567890 0123456789 9876543210 987654321 87654321 11111111 00000000 88888888 99999999 12341234
    11223344 1q2w3e4r 1q2w3e4r5t 1qaz2wsx qwertyui qwertyuiop qwerty12 qwerty123 qwerty1234 azertyuiop asdfghjk asdfghjkl
    asdf1234 zxcvbnm1 abcd1234 abc12345 abcdefgh a1b2c3d4 aa123456 iloveyou iloveyou1 sunshine princess football baseball
    basketball superman trustno1 whatever starwars computer michelle jennifer corvette mercedes maverick samantha steelers
    welcome1 welcome123 letmein1 letmein123 changeme changeme1 changeme123 administrator admin123 admin1234 admin12345
    root1234 secret12 secret123 test1234 testtest demo1234 default1 internet monkey123 dragon123 master123 shadow123
    zaq12wsx qazwsxedc 1qazxsw2 google123 liverpool charlie1 startrek butterfly jobber123 jobberjobber
"""
COMMON = frozenset(_COMMON.split())

T = TypeVar("T")

# m=19 MiB, t=2, p=1 (OWASP password storage cheat sheet). Measured: 44 ms.
_hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19 << 10, parallelism=1)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right, and whether its hash should be replaced."""

    right: bool
    outdated: bool = False


class Passwords:
    """Hashes and verifies, never on the event loop."""

    def __init__(self, threads: int | None = None) -> None:
        # argon2 lets go of the GIL. Each thread takes 19 MiB while it hashes.
        self._threads = ThreadPoolExecutor(threads or min(4, os.cpu_count() or 1), thread_name_prefix="passwords")
        self._waiting = 0
        # Verified when the e-mail is not known, so that the answer takes as long. Nobody knows its password.
        self._dummy = _hasher.hash(os.urandom(32).hex())

    async def hash(self, password: str) -> str:
        """A new hash of the password, with its parameters and salt."""
        return await self._in_thread(_hash, password)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether the password is that of the stored hash; None, for a user that is not known, takes as long and is wrong."""
        verdict = await self._in_thread(_verify, password, stored or self._dummy)
        return verdict if stored else Verdict(False)

    async def _in_thread(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many logins at once; try again in a moment.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def check_new(password: str, email: str) -> None:
    """Refuse a password that is easily guessed.

    Raises InvalidData.
    """
    if len(password) < MIN_CHARS:
        raise InvalidData(f"A password has at least {MIN_CHARS} characters.")
    check_length(password)
    folded = password.casefold()
    if folded in COMMON or len(set(folded)) < 3 or folded in email.casefold():
        raise InvalidData("This password is among the first that anybody would try.")


def check_length(password: str) -> None:
    """Refuse what no password is, before it is hashed.

    Raises InvalidData.
    """
    if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidData(f"A password has at most {MAX_BYTES} bytes.")


def _hash(password: str) -> str:
    return _hasher.hash(password)


def _verify(password: str, stored: str) -> Verdict:
    if stored.startswith(("$2a$", "$2b$", "$2y$")):
        # bcrypt 5 raises on longer passwords, where the library that made the hash cut them.
        try:
            return Verdict(bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], stored.encode()), outdated=True)
        except ValueError:  # No hash at all, though it begins like one.
            return Verdict(False)
    try:
        _hasher.verify(stored, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return Verdict(False)
    return Verdict(True, _hasher.check_needs_rehash(stored))
