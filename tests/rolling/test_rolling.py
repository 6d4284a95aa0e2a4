"""The short tier of `python -m tests.rolling`."""

import pytest

from tests.rolling.restart import ORDER, roll


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_rolling_restart_loses_and_repeats_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    outcome = roll(200_000, tmp_path_factory.mktemp("rolling"), print)
    print(outcome.line())
    assert outcome.broken == []
    assert outcome.restarts == 2 * len(ORDER)
