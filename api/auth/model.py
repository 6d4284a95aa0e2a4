"""The nouns of auth."""

import enum
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobber.errors import InvalidData

#: RFC 5321 4.5.3.1.3: a path has at most 256 octets, two of them brackets.
MAX_EMAIL = 254

# Whether an address exists only a letter tells; this keeps out what is none, and what would harm a log or a page.
_EMAIL = re.compile(r"[^\s@<>\"'\\,;:()\[\]]+@[^\s@<>\"'\\,;:()\[\]]+")


class Role(enum.StrEnum):
    """What a user may do."""

    #: Everything, and users.
    ADMIN = "ADMIN"
    #: Submit jobs and see their own.
    MEMBER = "MEMBER"
    #: See their own jobs.
    VIEWER = "VIEWER"


@dataclass(frozen=True, slots=True)
class User:
    """Who may log in."""

    #: Lowercase UUID.
    id: str
    email: str
    role: Role


@dataclass(frozen=True, slots=True)
class Session:
    """A login or an API token that is good: not expired, not revoked, its user not disabled."""

    #: The token's jti; an API token's id.
    id: str
    user: User
    #: None: an API token without an end.
    expires_at: datetime | None
    #: How long that is yet, by the database's clock.
    good_for: timedelta | None
    #: What an API token may do (api.scopes); None: a login, which may do all that its user's role allows.
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Login:
    """A new session with its token, which is nowhere stored."""

    token: str
    user: User
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A program's way in, without its secret."""

    #: Lowercase UUID.
    id: str
    name: str
    scopes: tuple[str, ...]
    #: None: no end.
    expires_at: datetime | None
    #: To the minute; None: never.
    last_used_at: datetime | None = None


def email_key(email: str) -> str:
    """The form in which two addresses of one user are equal."""
    return unicodedata.normalize("NFKC", email).strip().casefold()


def check_email(email: str) -> str:
    """The address, trimmed.

    Raises InvalidData when it is none.
    """
    trimmed = email.strip()
    if len(trimmed.encode("utf-8", "replace")) > MAX_EMAIL or not trimmed.isprintable() or not _EMAIL.fullmatch(trimmed):
        raise InvalidData("This is no e-mail address.")
    return trimmed
