"""How every client reaches a gRPC service: addresses, limits, keep-alive and the service credential."""

from collections.abc import Sequence

#: A batch's Arrow stream goes in chunks of 1 MiB, but receipts carry whole blocks of rejects.
MAX_MESSAGE_BYTES = 64 << 20

OPTIONS: Sequence[tuple[str, str | int]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Measured: 2.0 instead of 1.6 GB/s on loopback.
    ("grpc.http2.write_buffer_size", 4 << 20),
    # A peer that was killed and came back must be found again within seconds, not after gRPC's default two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


def target(addresses: str) -> str:
    """A gRPC target for `host:port`, or for several of them separated by commas, served in turn."""
    parts = [part.strip().removeprefix("http://").removeprefix("grpc://") for part in addresses.split(",") if part.strip()]
    if len(parts) == 1:
        return parts[0]
    return "ipv4:" + ",".join(part.replace("localhost", "127.0.0.1") for part in parts)


def credential(service_token: str) -> tuple[tuple[str, str], ...]:
    """Metadata that proves one service to another."""
    return (("authorization", f"Bearer {service_token}"),)
