"""The tokens that callers show.

A person's is a JWT, signed with a key of api.keys, checked more strictly than a library does by itself. A program's is random
(`jobber_…`), and only auth's database knows it.

The signature only says that auth made it. Whether it still counts (expiry, logout, a disabled user) only auth's database
says, by its own clock; so nothing here looks at the clock of this machine. RFC 8725, RFC 9068.
"""

import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import msgspec

from api.keys import Keys
from jobber.errors import Unauthenticated

ISSUER = "jobber"
AUDIENCE = "jobber"
#: Explicit typing (RFC 8725 3.11), so that no other JWT of the same key is taken for a login.
TYPE = "at+jwt"
#: Ours have 300 bytes; PyJWT alone would decode a megabyte.
MAX_BYTES = 4 << 10
#: No session is longer, so that a token which claims to be was not made here.
MAX_LIFETIME = 366 * 86_400
#: The end of year 9999, beyond which a datetime does not go.
MAX_MOMENT = 253_402_300_799

#: What API tokens begin with, so that scanners of repositories find lost ones.
API_PREFIX = "jobber_"

_API_TOKEN = re.compile(rf"{API_PREFIX}[A-Za-z0-9_-]{{43}}")
_CLAIMS = {"iss", "aud", "sub", "jti", "iat", "exp"}
_header = msgspec.json.Decoder(dict[str, Any])
_decoder = jwt.PyJWT(
    options={
        "require": sorted(_CLAIMS),
        "strict_aud": True,
        # Against the database's clock, by auth.
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "enforce_minimum_key_length": True,
    }
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says, its signature and types being good."""

    user_id: str
    #: The session (jti).
    session_id: str
    issued_at: datetime
    expires_at: datetime


def new_api_token() -> str:
    """256 random bits."""
    return API_PREFIX + secrets.token_urlsafe(32)


def is_api_token(token: str) -> bool:
    """Whether it looks like one; whether it is good only auth's database says."""
    return _API_TOKEN.fullmatch(token) is not None


def api_token_hash(token: str) -> bytes:
    """What is stored. 256 random bits need no slow hash: there is nothing to guess."""
    return hashlib.sha256(token.encode()).digest()


def sign(claims: Claims, keys: Keys) -> str:
    """The token. Raises InvalidData when there is no key to sign with."""
    signing = keys.signing(TYPE)
    payload = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": claims.user_id,
        "jti": claims.session_id,
        "iat": int(claims.issued_at.timestamp()),
        "exp": int(claims.expires_at.timestamp()),
    }
    return _decoder.encode(payload, signing.key, signing.algorithm, headers=dict(signing.header))


def verify(token: str, keys: Keys) -> Claims:
    """What the token says.

    Raises Unauthenticated for everything that `sign` would not have made.
    """
    if not token.isascii() or len(token) > MAX_BYTES or token.count(".") != 2:
        raise Unauthenticated
    try:
        header = _header.decode(jwt.utils.base64url_decode(token.partition(".")[0]))
        algorithm, key = keys.verifying(header, TYPE)
        payload = _decoder.decode(token, key, algorithms=[algorithm], audience=AUDIENCE, issuer=ISSUER)
    except (jwt.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise Unauthenticated from fault
    issued, expires = payload["iat"], payload["exp"]
    if set(payload) != _CLAIMS or not _is_moment(issued) or not _is_moment(expires):
        raise Unauthenticated
    if not 0 < expires - issued <= MAX_LIFETIME:
        raise Unauthenticated
    return Claims(
        _uuid(payload["sub"]),
        _uuid(payload["jti"]),
        datetime.fromtimestamp(issued, UTC),
        datetime.fromtimestamp(expires, UTC),
    )


def _is_moment(value: object) -> bool:
    """Whole seconds: PyJWT takes "1e300" and strings too."""
    return type(value) is int and 0 < value <= MAX_MOMENT


def _uuid(value: object) -> str:
    if isinstance(value, str):
        try:
            if str(uuid.UUID(value)) == value:
                return value
        except ValueError:
            pass
    raise Unauthenticated
