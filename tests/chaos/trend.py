"""Whether a series of measurements grows: for the soak."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Bar:
    """What growth is still flat: the larger of an absolute number and a share of the median."""

    absolute: float
    share: float


#: Memory of an allocator wavers by some MiB; descriptors and connections by those of the requests under way.
MEMORY, DESCRIPTORS, CONNECTIONS = Bar(16 << 20, 0.08), Bar(12, 0.15), Bar(3, 0.15)
#: PostgreSQL's sessions keep files open that they once needed, each up to max_files_per_process: a cache that fills slowly.
#: Sessions that leak are seen all the same, as connections of the services.
CACHED_FILES = Bar(300, 0.5)


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series went after its warm-up."""

    first: float
    median: float
    most: float
    #: From the first to the last sample, along the line.
    growth: float
    hourly: float
    flat: bool


def trend(samples: Sequence[tuple[float, float]], bar: Bar) -> Trend:
    """The line through samples of (seconds, value), after Theil and Sen.

    It is the median of the slopes between all pairs, so that peaks, of which load makes many, do not bend it (Sen 1968,
    doi:10.1080/01621459.1968.10480934).
    """
    at, value = np.array(samples, dtype=float).T
    later, earlier = np.triu_indices(len(at), 1)[::-1]
    slope = float(np.median((value[later] - value[earlier]) / (at[later] - at[earlier]))) if len(at) > 1 else 0.0
    growth, median = slope * float(at[-1] - at[0]), float(np.median(value))
    flat = growth <= max(bar.absolute, bar.share * median)
    return Trend(float(value[0]), median, float(value.max()), growth, slope * 3600, flat)
