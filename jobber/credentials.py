"""The credential that services show each other: derived from JWT_SECRET, so that one secret configures a deployment."""

import base64
import hashlib
import hmac

#: Changing the label invalidates every service token; so does changing JWT_SECRET.
LABEL = b"jobber service token v1"


def service_token(jwt_secret: str) -> str:
    """The bearer token for gRPC metadata `authorization: Bearer …` between services."""
    digest = hmac.new(jwt_secret.encode(), LABEL, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def is_service_token(token: str, jwt_secret: str) -> bool:
    """Whether `token` is the service token; takes the same time for every wrong one."""
    return hmac.compare_digest(token.encode(), service_token(jwt_secret).encode())
