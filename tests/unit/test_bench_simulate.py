"""The model of larger deployments: its fit, its network, and what it calls the wall."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulate import figures, model
from benchmarks.simulate.figures import Figures, fitted
from benchmarks.simulate.model import Deployment, Station, throughput

GIVEN = Figures(
    {"executor": 1e-6, "products": 0.5e-6, "postgres": 1.5e-6}, 0.006, 0.3e-6, 270.0, 1_000_000, 1.9, 2, 0.001, 1e10, {2: 5e5}
)
SIZES = (100_000, 1_000_000, 10_000_000)


@given(st.floats(0, 5), st.floats(1e-8, 1e-4))
def test_a_line_is_found_again(fixed: float, slope: float) -> None:
    fit = fitted([(rows, fixed + slope * rows) for rows in SIZES])
    assert fit.slope == pytest.approx(slope, rel=1e-6)
    assert fit.fixed == pytest.approx(fixed, rel=1e-6, abs=1e-6)
    assert fit.error < 1e-6


def test_errors_count_by_their_share_and_nothing_is_below_zero() -> None:
    # Ten per cent too much at one size: by plain least squares the largest one alone would be met.
    fit = fitted([(100_000, 0.11), (1_000_000, 1.0), (10_000_000, 10.0)])
    assert 0 < fit.fixed < 0.011
    assert fit.error < 0.06
    # A line through these would begin below zero.
    falling = fitted([(100_000, 0.05), (1_000_000, 1.0)])
    assert falling.fixed == 0
    assert falling.slope > 0
    assert fitted([(1_000_000, 2.0)]).slope == pytest.approx(2e-6)


@given(st.integers(1, 60), st.integers(1, 6), st.floats(0.001, 1))
def test_equal_stations_have_a_known_throughput(window: int, count: int, demand: float) -> None:
    """N / (D (N + M - 1)) for M stations of one server (Lazowska et al. 1984, chapter 5)."""
    network = [Station(str(number), 1, demand) for number in range(count)]
    assert throughput(network, window) == pytest.approx(window / (demand * (window + count - 1)))


@given(
    st.integers(1, 200), st.lists(st.tuples(st.integers(1, 16), st.floats(0.001, 1)), min_size=1, max_size=6), st.floats(0, 1)
)
def test_no_network_is_faster_than_its_slowest_station_or_its_window(
    window: int, given_stations: list[tuple[int, float]], delay: float
) -> None:
    network = [Station(str(number), *station) for number, station in enumerate(given_stations)]
    network.append(Station("delay", 1, delay, delay=True))
    rate = throughput(network, window)
    assert rate <= min(station.most for station in network) * (1 + 1e-9)
    assert rate <= window / sum(station.demand for station in network) * (1 + 1e-9)
    assert rate <= throughput(network, window + 1) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("changed", "deployment", "wall"),
    [
        ({"per_row": {"executor": 9e-6, "products": 1e-6, "postgres": 1e-6}}, Deployment(2, 2), "executor CPU"),
        ({"per_row": {"executor": 1e-6, "products": 9e-6, "postgres": 1e-6}}, Deployment(8, 2), "products CPU"),
        ({}, Deployment(32, 1), "COPY sessions"),
        ({}, Deployment(32, 8), "PostgreSQL CPU"),
        ({"disk": 1e8}, Deployment(32, 8), "PostgreSQL's disk"),
        ({"per_batch": 0.9}, Deployment(32, 8), "jobs service"),
        ({"plan": 1e-4}, Deployment(32, 8), "planning"),
        ({"flush": 9.0}, Deployment(1, 8), "batches in flight of an executor"),
        ({"flush": 9.0}, Deployment(32, 8, loads=1), "batches in flight of a load"),
        ({"flush": 99.0}, Deployment(100, 8, loads=100), "the window of all loads"),
    ],
)
def test_what_is_scarce_is_the_wall(changed: dict[str, object], deployment: Deployment, wall: str) -> None:
    found = model.predicted(replace(GIVEN, **changed), deployment)  # type: ignore[arg-type]
    assert found.wall == wall
    assert all(share <= 1 + 1e-9 for share in found.busy.values())


def test_whoever_doubles_the_wall_gets_further_and_comes_to_an_end() -> None:
    path = model.grown(GIVEN, Deployment(), 0.9, most=8)
    rates = [found.rate for _, found in path]
    assert rates == sorted(rates)
    assert len(path) > 5
    assert max(max(part.executors, part.products, part.partitions) for part, _ in path) <= 8


def test_the_machine_that_was_measured_comes_out_as_it_was_measured() -> None:
    share = model.efficiency(GIVEN)
    assert 0 < share < 1
    assert model.on_one_machine(GIVEN) * share == pytest.approx(GIVEN.rows / GIVEN.wall)
    assert model.efficiency(replace(GIVEN, wall=0.001)) == 1


def test_figures_are_measured_ones_where_there_are_some(tmp_path: Path) -> None:
    without = figures.gathered(tmp_path, 0.001, 1e9)
    assert without.per_row["products"] == figures.FALLBACK_PER_ROW["products"]
    assert (without.wal, without.plan) == (figures.FALLBACK_WAL, figures.FALLBACK_PLAN)
    used = {"executor": 2.0, "products": 0.4, "postgres": 1.0, "jobs": 0.1}
    rows = [
        {"rows": size, "s": 3 * size / 1e6, "WAL B/row": 300.0, **{f"{role} CPU s": 1e-6 * size * used[role] for role in used}}
        for size in SIZES
    ]
    machine = {"cpus": 4}
    executors = [{"executors": 2, "rows/s": 7.0}]
    (tmp_path / "scale.json").write_text(json.dumps({"at": 0, "machine": machine, "rows": rows, "executors": executors}))
    (tmp_path / "operators.json").write_text(json.dumps({"at": 0, "cpu": [{"format": "csv", "plan": 0.5}]}))
    found = figures.gathered(tmp_path, 0.001, 1e9)
    assert found.per_row == pytest.approx({"executor": 2e-6, "products": 0.4e-6, "postgres": 1e-6})
    assert found.per_batch == pytest.approx(0.1e-6 * figures.BATCH_ROWS)
    assert (found.plan, found.wal, found.rows, found.wall, found.cores) == (0.5e-6, 300.0, 1_000_000, 3.0, 4)
    assert found.measured == {2: 7.0}
    assert any("bench scale" in line and "± 0%" in line for line in found.sources)
