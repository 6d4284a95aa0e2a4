"""Where a request comes from, and whom one believes about it."""

import pytest
from starlette.requests import HTTPConnection

from api.addresses import client_address


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("10.0.0.9", None, (), "10.0.0.9"),
        ("10.0.0.9", "1.1.1.1", (), "10.0.0.9"),
        ("10.0.0.9", "1.1.1.1", ("10.0.0.0/8",), "1.1.1.1"),
        ("10.0.0.9", "6.6.6.6, 1.1.1.1", ("10.0.0.0/8",), "1.1.1.1"),
        ("10.0.0.9", "6.6.6.6, 1.1.1.1, 10.0.0.8", ("10.0.0.0/8",), "1.1.1.1"),
        ("10.0.0.9", "garbage", ("10.0.0.0/8",), "10.0.0.9"),
        ("10.0.0.9", "1.1.1.1, garbage", ("10.0.0.0/8",), "10.0.0.9"),
        ("10.0.0.9", ", ".join(["1.1.1.1"] * 100), ("10.0.0.0/8",), "1.1.1.1"),
        # One customer has at least a /64.
        ("2001:db8::1:2", None, (), "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", None, (), "2001:db8::/64"),
        ("::ffff:10.0.0.9", "1.1.1.1", ("10.0.0.0/8",), "1.1.1.1"),
        (None, "1.1.1.1", ("10.0.0.0/8",), ""),
    ],
)
def test_address(peer: str | None, forwarded: str | None, trusted: tuple[str, ...], expected: str) -> None:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode())]
    scope = {"type": "http", "headers": headers, "client": (peer, 1) if peer else None}
    assert client_address(HTTPConnection(scope), trusted) == expected
