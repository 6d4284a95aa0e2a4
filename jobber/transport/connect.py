"""Chooses the transport by the settings; a broker's client is imported only when it is used."""

from collections.abc import Sequence

from jobber.settings import TransportSettings
from jobber.transport import Consumer, Group, Publisher
from jobber.transport.pulsar_partitions import Partitions


async def open_publisher(settings: TransportSettings) -> Publisher:
    """A publisher. It connects when it first publishes. Raises ValueError when no transport is configured."""
    if settings.url.startswith("pulsar"):
        from jobber.transport.pulsar import PulsarPublisher

        return PulsarPublisher(settings.url, settings.pulsar_namespace, _partitions(settings))
    from jobber.transport.postgres import PostgresPublisher

    return PostgresPublisher(settings.url)


def open_consumer(settings: TransportSettings, groups: Sequence[Group], name: str) -> Consumer:
    """A consumer of groups of topics (lanes), served in turn. It connects when it first receives."""
    if settings.url.startswith("pulsar"):
        from jobber.transport.pulsar import PulsarConsumer

        return PulsarConsumer(settings.url, settings.pulsar_namespace, groups, name, _partitions(settings))
    from jobber.transport.postgres import PostgresConsumer

    return PostgresConsumer(settings.url, groups, name)


def _partitions(settings: TransportSettings) -> Partitions:
    return Partitions(settings.pulsar_partitions, settings.pulsar_admin_url or "")
