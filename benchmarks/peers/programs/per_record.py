"""The per-record design: each record is one message, one unary gRPC call, one INSERT with its commit, and one acknowledge.

Three processes, as there: who publishes, who consumes and calls, and the service that inserts. The messages go through Pulsar
where it is given, else through a stream of Redis, which answers sooner: the imitation is then faster than what it imitates.
"""

import functools
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psycopg

from benchmarks.peers.programs.served import COLUMNS, DSN, TABLE, records, serve

METHOD, STREAM, GROUP = "CreateProduct", "records", "executors"
PULSAR, REDIS = os.environ.get("PEER_PULSAR", ""), os.environ["PEER_REDIS"]


def insert(port: Any) -> None:
    """The service."""
    session = psycopg.connect(DSN, autocommit=True)
    statement = f"INSERT INTO {TABLE} ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s)"

    def create(asked: bytes, _: grpc.ServicerContext) -> bytes:
        session.execute(statement, json.loads(asked))
        return b"{}"

    server = grpc.server(ThreadPoolExecutor(1))
    handlers: dict[str, Any] = {METHOD: grpc.unary_unary_rpc_method_handler(create)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("peer.Products", handlers)])
    port.value = server.add_insecure_port("127.0.0.1:0")
    server.start()
    server.wait_for_termination()


def consume(port: int, finished: Any) -> None:
    """The executor: one record after the other."""
    receive = from_pulsar() if PULSAR else from_redis()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        create: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/peer.Products/{METHOD}")
        while True:
            message, acknowledge = receive()
            create(message)
            acknowledge()
            finished.value += 1


def from_redis() -> Callable[[], tuple[bytes, Callable[[], object]]]:
    """A message, and how it is acknowledged."""
    import redis

    broker = redis.Redis.from_url(REDIS)

    def receive() -> tuple[bytes, Callable[[], object]]:
        while not (got := broker.xreadgroup(GROUP, "one", {STREAM: ">"}, count=1, block=1000)):
            pass
        ((number, fields),) = got[0][1] if isinstance(got, list) else next(iter(got.values()))[0]
        return fields[b"record"], functools.partial(broker.xack, STREAM, GROUP, number)

    return receive


def from_pulsar() -> Callable[[], tuple[bytes, Callable[[], object]]]:
    """A message, and how it is acknowledged."""
    import pulsar

    kind = pulsar.ConsumerType.Shared
    consumer = pulsar.Client(PULSAR, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error)).subscribe(
        STREAM, GROUP, consumer_type=kind, initial_position=pulsar.InitialPosition.Earliest
    )

    def receive() -> tuple[bytes, Callable[[], object]]:
        message = consumer.receive()
        return message.data(), functools.partial(consumer.acknowledge, message)

    return receive


def publisher() -> Callable[[bytes], object]:
    """Sends a message and waits for the broker's word."""
    if PULSAR:
        import pulsar

        client = pulsar.Client(PULSAR, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error))
        send: Callable[[bytes], object] = client.create_producer(STREAM).send
        return send
    import redis

    broker = redis.Redis.from_url(REDIS)
    broker.delete(STREAM)
    broker.xgroup_create(STREAM, GROUP, mkstream=True)
    return lambda message: broker.xadd(STREAM, {"record": message})


def main() -> None:
    """Start the others, then publish what is asked for."""
    # A fork would copy the threads of the clients.
    processes = multiprocessing.get_context("spawn")
    port, finished = processes.Value("i", 0), processes.Value("i", 0)
    publish = publisher()
    processes.Process(target=insert, args=(port,), daemon=True).start()
    while not port.value:
        time.sleep(0.01)
    processes.Process(target=consume, args=(port.value, finished), daemon=True).start()

    def load(csv_file: Path) -> None:
        finished.value = sent = 0
        with records(csv_file) as rows:
            for row in rows:
                publish(json.dumps(row).encode())
                sent += 1
        while finished.value < sent:
            time.sleep(0.005)

    serve(load)


if __name__ == "__main__":
    main()
