"""What services show each other: a token derived from JWT_SECRET, so that one secret configures a deployment, and, where it is
configured, certificates of a common authority."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from jobber.errors import InvalidData

#: Changing the label invalidates every service token; so does changing JWT_SECRET.
LABEL = b"jobber service token v1"


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates for gRPC in both directions: each side shows its own, and takes only those of `authority`. PEM."""

    authority: bytes
    certificate: bytes
    key: bytes

    @staticmethod
    def read(authority: Path, certificate: Path, key: Path) -> "Tls":
        """From files.

        Raises InvalidData for one that cannot be read.
        """
        try:
            return Tls(authority.read_bytes(), certificate.read_bytes(), key.read_bytes())
        except OSError as fault:
            raise InvalidData(f"The gRPC certificate {fault.filename} cannot be read: {fault.strerror}.") from fault


def service_token(jwt_secret: str) -> str:
    """The bearer token for gRPC metadata `authorization: Bearer …` between services."""
    digest = hmac.new(jwt_secret.encode(), LABEL, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_service_token(token: str, jwt_secret: str) -> bool:
    """Whether `token` is the service token; takes the same time for every wrong one."""
    return hmac.compare_digest(token.encode(), service_token(jwt_secret).encode())
