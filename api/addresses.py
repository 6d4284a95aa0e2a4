"""Where a request comes from. X-Forwarded-For is a claim that anybody can make: only configured proxies are believed."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.requests import HTTPConnection

#: Proxies in a row; a longer header is no proxy's.
MAX_HOPS = 20


def client_address(connection: HTTPConnection, trusted_proxies: Sequence[str]) -> str:
    """The address nearest to the client that a trusted proxy vouches for; empty when the socket has none.

    An IPv6 address is told as its /64 network: one customer has at least so many.
    """
    peer = _address(connection.client.host if connection.client else "")
    if peer is None:
        return ""
    trusted = [ip_network(network) for network in trusted_proxies]
    claimed = [part for value in connection.headers.getlist("x-forwarded-for") for part in value.split(",")]
    # From right to left: each proxy appended whom it heard from, so that only what trusted ones wrote is believed.
    for hop in reversed(claimed[-MAX_HOPS:]):
        if not any(peer in network for network in trusted):
            break
        said = _address(hop.strip())
        if said is None:
            break
        peer = said
    return str(IPv6Network((int(peer), 64), strict=False)) if isinstance(peer, IPv6Address) else str(peer)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found
