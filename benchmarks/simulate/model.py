"""A closed queueing network: batches in flight go round executor, wire, products, PostgreSQL and its disk, and jobs.

Each station has so many servers and a demand of each batch. Its rate is by exact mean value analysis (Reiser and Lavenberg
1980, https://doi.org/10.1145/322186.322195), stations of several servers by Seidmann's approximation (1987): a queue that is as
many times faster, and a delay for the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.simulate.figures import BATCH_ROWS, Figures

#: As the services' settings have them by default.
IN_FLIGHT, JOB_WINDOW, WINDOW, COPY_SESSIONS = 4, 12, 256, 2
#: Bytes of a row as Arrow, and of a network of 10 Gbit/s.
ARROW_BYTES, NETWORK = 150, 1.25e9
#: Of the log's bytes, what the disk takes in all: checkpoints write the table's pages once more.
DISK_WRITES = 2


@dataclass(frozen=True, slots=True)
class Deployment:
    """So many of each; all on machines of their own."""

    executors: int = 1
    products: int = 1
    #: Installations of PostgreSQL, with jobs shared out between them.
    partitions: int = 1
    #: Loads that run at once: each is planned by one thread while its file comes, and has a window of batches.
    loads: int = 4
    executor_cores: int = 2
    products_cores: int = 2
    postgres_cores: int = 4


@dataclass(frozen=True, slots=True)
class Station:
    """Where batches wait: servers, and seconds that each batch needs of one."""

    name: str
    servers: float
    demand: float
    #: Nothing waits: everybody has one of their own.
    delay: bool = False

    @property
    def most(self) -> float:
        """Batches a second."""
        return float("inf") if self.delay or not self.demand else self.servers / self.demand


@dataclass(frozen=True, slots=True)
class Prediction:
    """Rows a second, what bounds them, and how busy each station is."""

    rate: float
    wall: str
    busy: dict[str, float]


def stations(figures: Figures, deployment: Deployment) -> list[Station]:
    """Of one deployment, by batch."""
    rows = BATCH_ROWS
    sessions = min(deployment.products * COPY_SESSIONS, deployment.postgres_cores * deployment.partitions)
    return [
        Station("executor CPU", deployment.executors * deployment.executor_cores, figures.per_row["executor"] * rows),
        Station("network of products", deployment.products, rows * ARROW_BYTES / NETWORK),
        Station("products CPU", deployment.products * deployment.products_cores, figures.per_row["products"] * rows),
        Station("PostgreSQL CPU" if sessions >= deployment.postgres_cores * deployment.partitions else "COPY sessions",
                sessions, figures.per_row["postgres"] * rows),
        Station("PostgreSQL's disk", deployment.partitions, rows * figures.wal * DISK_WRITES / figures.disk),
        Station("jobs service", deployment.partitions, figures.per_batch),
        Station("commit", 1, figures.flush, delay=True),
    ]  # fmt: skip


def predicted(figures: Figures, deployment: Deployment, efficiency: float = 1.0) -> Prediction:
    """In the middle of long loads. `efficiency`: what is left of a rate by all that the model does not know."""
    network = stations(figures, deployment)
    window = min(deployment.executors * IN_FLIGHT, deployment.loads * JOB_WINDOW, WINDOW * deployment.partitions)
    batches = throughput(network, window)
    planned = deployment.loads / (figures.plan * BATCH_ROWS)
    busy = {station.name: batches / station.most for station in network if station.most < float("inf")}
    busy["planning"] = min(batches, planned) / planned
    if planned < batches:
        busy = {name: share * planned / batches for name, share in busy.items()} | {"planning": 1.0}
        batches = planned
    name, share = max(busy.items(), key=lambda item: item[1])
    # Where nothing is busy, batches are too few: those in flight wait for each other's stations in turn.
    wall = name if share > 0.8 else _narrowest(deployment)
    return Prediction(batches * BATCH_ROWS * efficiency, wall, busy)


def _narrowest(deployment: Deployment) -> str:
    limits = {
        "batches in flight of an executor": deployment.executors * IN_FLIGHT,
        "batches in flight of a load": deployment.loads * JOB_WINDOW,
        "the window of all loads": WINDOW * deployment.partitions,
    }
    return min(limits, key=lambda name: limits[name])


def throughput(network: Sequence[Station], window: int) -> float:
    """Batches a second with so many in flight, by mean value analysis."""
    queues = [station for station in network if not station.delay and station.demand > 0]
    fast = [station.demand / station.servers for station in queues]
    think = sum(station.demand for station in network if station.delay)
    think += sum(station.demand * (1 - 1 / station.servers) for station in queues)
    waiting = [0.0] * len(queues)
    rate = 0.0
    for number in range(1, window + 1):
        times = [demand * (1 + queue) for demand, queue in zip(fast, waiting, strict=True)]
        rate = number / (think + sum(times))
        waiting = [rate * seconds for seconds in times]
    return rate


def on_one_machine(figures: Figures) -> float:
    """Rows a second if all shared the measured machine's cores and nothing else: what it was is this times the efficiency."""
    demand = sum(figures.per_row.values()) + figures.per_batch / BATCH_ROWS
    return figures.cores / demand


def efficiency(figures: Figures) -> float:
    """What is left of the shared cores' rate by waiting, starting, ending and each other's caches; at most 1."""
    return min(1.0, figures.rows / figures.wall / on_one_machine(figures))


def grown(figures: Figures, first: Deployment, share: float, most: int = 16) -> list[tuple[Deployment, Prediction]]:
    """From `first` on, always twice of what is the wall, until what is the wall cannot be had twice or is had `most` times."""
    path = [(first, predicted(figures, first, share))]
    while True:
        deployment, found = path[-1]
        match found.wall:
            case "executor CPU" | "batches in flight of an executor":
                bigger = replace(deployment, executors=deployment.executors * 2)
            case "products CPU" | "COPY sessions" | "network of products":
                bigger = replace(deployment, products=deployment.products * 2)
            case "PostgreSQL CPU" | "PostgreSQL's disk" | "jobs service" | "the window of all loads":
                bigger = replace(deployment, partitions=deployment.partitions * 2)
            case _:
                bigger = replace(deployment, loads=deployment.loads * 2)
        if max(bigger.executors, bigger.products, bigger.partitions) > most:
            return path
        path.append((bigger, predicted(figures, bigger, share)))
