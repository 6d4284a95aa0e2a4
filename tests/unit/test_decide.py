"""What the jobs service decides: ends, fair turns, and what counts as lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.decide import Hungry, Limits, Outstanding, Tally, choose, lost, verdict
from jobber.model import State


@pytest.mark.parametrize(
    ("tally", "limits", "state"),
    [
        (Tally(2, 10, 0, 0, 0), Limits(), State.SUCCEEDED),
        (Tally(2, 9, 0, 0, 1), Limits(), State.PARTIAL),
        (Tally(2, 0, 0, 0, 10), Limits(), State.FAILED),
        (Tally(1, 5, 0, 0, 0), Limits(), None),
        (Tally(2, 9, 0, 0, 1), Limits(max_errors=0), State.FAILED),
        (Tally(2, 9, 0, 0, 1), Limits(max_errors=1), State.PARTIAL),
        (Tally(2, 8, 0, 0, 2), Limits(max_error_ratio=0.1), State.FAILED),
        (Tally(2, 9, 0, 0, 1), Limits(max_error_ratio=0.1), State.PARTIAL),
        (Tally(2, 9, 0, 0, 1), Limits(max_errors=5, max_error_ratio=0.0), State.FAILED),
        (Tally(1, 2, 0, 0, 3), Limits(max_errors=2), State.FAILED),
    ],
)
def test_a_job_ends_as_its_receipts_say(tally: Tally, limits: Limits, state: State | None) -> None:
    end = verdict(tally, total=10, batches=2, limits=limits)
    assert (end.state if end else None) == state


@pytest.mark.parametrize(
    ("limits", "total", "allowed"),
    [
        (Limits(), 100, None),
        (Limits(max_errors=0), 100, 0),
        (Limits(max_errors=7), 3, 7),
        # As binary floats 0.29 * 100 is 28.999…, and 0.07 * 100 is 7.000…1.
        (Limits(max_error_ratio=0.29), 100, 29),
        (Limits(max_error_ratio=0.07), 100, 7),
        (Limits(max_error_ratio=0.299), 10, 2),
        (Limits(max_error_ratio=1e-9), 10**9 - 1, 0),
        (Limits(max_error_ratio=1e-9), 10**9, 1),
        (Limits(max_error_ratio=0.1), 9_007_199_254_740_993_0, 9_007_199_254_740_993),
        (Limits(max_error_ratio=1.0), 5, 5),
        (Limits(max_errors=3, max_error_ratio=0.29), 10, 2),
        (Limits(max_errors=1, max_error_ratio=0.29), 10, 1),
    ],
)
def test_limits_are_exact(limits: Limits, total: int, allowed: int | None) -> None:
    assert limits.allowed(total) == allowed
    if allowed is None or allowed >= total:
        return
    at = verdict(Tally(2, total - allowed, 0, 0, allowed), total=total, batches=2, limits=limits)
    beyond = verdict(Tally(2, total - allowed - 1, 0, 0, allowed + 1), total=total, batches=2, limits=limits)
    assert at is not None
    assert beyond is not None
    assert at.state in (State.SUCCEEDED, State.PARTIAL)
    assert beyond.state is State.FAILED


def test_a_job_over_its_limit_is_closed_first_while_batches_are_on_their_way() -> None:
    early = verdict(Tally(1, 0, 0, 0, 5), total=10, batches=2, limits=Limits(max_errors=2))
    late = verdict(Tally(2, 5, 0, 0, 5), total=10, batches=2, limits=Limits(max_errors=2))
    assert early is not None
    assert early.closing
    assert late is not None
    assert not late.closing
    assert "5 of 10" in (late.error or "")


def hungry(job: str, owner: str, *, priority: int = 1, next_batch: int = 0, batches: int = 10, outstanding: int = 0) -> Hungry:
    return Hungry(job, owner, priority, int(job[1:]), next_batch, batches, outstanding)


def test_a_small_job_goes_before_the_rest_of_a_large_one() -> None:
    chosen = choose([hungry("j1", "a", batches=100), hungry("j2", "b", batches=1)], room=4, job_window=8)
    assert chosen == [("j1", 0), ("j2", 0), ("j1", 1), ("j1", 2)]


def test_jobs_of_one_owner_take_turns_too() -> None:
    chosen = choose([hungry("j1", "a", outstanding=3, next_batch=3), hungry("j2", "a", batches=2)], room=3, job_window=8)
    assert chosen == [("j2", 0), ("j2", 1), ("j1", 3)]


def test_priority_comes_first() -> None:
    chosen = choose([hungry("j1", "a"), hungry("j2", "a", priority=2, batches=2)], room=3, job_window=8)
    assert chosen == [("j2", 0), ("j2", 1), ("j1", 0)]


def test_a_job_with_a_rate_gets_one_batch_and_its_turn() -> None:
    paced = Hungry("j1", "a", 1, 1, 0, 10, 0, paced=True)
    assert choose([paced, hungry("j2", "a", batches=3)], room=9, job_window=8) == [("j1", 0), ("j2", 0), ("j2", 1), ("j2", 2)]
    assert choose([paced], room=0, job_window=8) == []
    assert choose([Hungry("j1", "a", 1, 1, 8, 10, 8, paced=True)], room=9, job_window=8) == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 5), st.integers(1, 30), st.integers(0, 9)),
        max_size=12,
    ),
    st.integers(0, 40),
    st.integers(1, 8),
)
def test_windows_are_kept_and_no_owner_is_starved(
    specs: list[tuple[str, int, int, int, int]], room: int, job_window: int
) -> None:
    jobs = [
        Hungry(f"j{i}", owner, priority, i, min(done, batches), batches, min(out, done))
        for i, (owner, priority, done, batches, out) in enumerate(specs)
    ]
    chosen = choose(jobs, room=room, job_window=job_window)
    assert len(chosen) <= room
    assert len(set(chosen)) == len(chosen)
    for job in jobs:
        mine = [no for job_id, no in chosen if job_id == job.job_id]
        assert mine == list(range(job.next_batch, job.next_batch + len(mine)))
        assert job.outstanding + len(mine) <= max(job_window, job.outstanding)
        assert job.next_batch + len(mine) <= job.batches
    able = [job for job in jobs if job.next_batch < job.batches and job.outstanding < job_window]
    top = max((job.priority for job in able), default=0)
    owners = {job.owner_id for job in able if job.priority == top}
    if len(owners) <= room:
        served = {job.owner_id for job in jobs for job_id, _ in chosen if job_id == job.job_id}
        assert owners <= served


@given(st.integers(1, 7), st.integers(1, 12), st.integers(1, 4), st.data())
def test_no_owner_comes_twice_before_all_who_wait_came_once(room: int, owners: int, each: int, data: st.DataObject) -> None:
    waiting = {f"j{number}": f"o{number // each}" for number in range(owners * each)}
    had, served = dict.fromkeys(waiting.values(), 0), dict[str, int]()
    while waiting:
        jobs = [hungry(job, owner, batches=1) for job, owner in waiting.items()]
        # What is dispatched ends before the next round; how much room there is by then, is chance.
        for job, _ in choose(jobs, room=data.draw(st.integers(1, room)), job_window=4, served=served):
            owner = waiting.pop(job)
            had[owner] += 1
            served[owner] = sum(had.values())
        assert max(had.values()) <= 1 + min((had[owner] for owner in waiting.values()), default=each)


def test_who_has_the_window_full_of_large_jobs_does_not_keep_others_from_their_first_turn() -> None:
    large = [hungry(f"j{number}", "a", batches=100, next_batch=4, outstanding=3) for number in range(1, 50)]
    small = hungry("j99", "b", batches=1)
    assert choose([*large, small], room=1, job_window=4, served={"a": 7}) == [("j99", 0)]
    assert choose([*large, small], room=1, job_window=4, served={"a": 7, "b": 8})[0][0] == "j1"


def out(no: int, ago: float, claimed: float | None = None, dispatch: int = 1) -> Outstanding:
    return Outstanding("j", no, dispatch, ago, claimed)


@pytest.mark.parametrize(
    ("outstanding", "expected"),
    [
        ([out(0, 1.0)], []),
        # Nothing was claimed for as long as it waits.
        ([out(0, 3.0)], [("j", 0)]),
        # It waits its turn: earlier dispatches are being claimed.
        ([out(0, 3.0, claimed=0.5), out(1, 3.0)], []),
        # A later dispatch overtook it.
        ([out(0, 9.0), out(1, 1.0, claimed=0.5)], [("j", 0)]),
        # The delay doubles with each dispatch.
        ([out(0, 3.0, dispatch=2)], []),
        ([out(0, 5.0, dispatch=2)], [("j", 0)]),
        ([out(0, 21.0, dispatch=30)], [("j", 0)]),
        # Claimed: its executor gets the time that its retries take.
        ([out(0, 29.0, claimed=29.0)], []),
        ([out(0, 31.0, claimed=31.0)], [("j", 0)]),
        ([out(0, 61.0, claimed=61.0, dispatch=9)], [("j", 0)]),
    ],
)
def test_what_is_lost_is_issued_again(outstanding: list[Outstanding], expected: list[tuple[str, int]]) -> None:
    assert lost(outstanding) == expected
