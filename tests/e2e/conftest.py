"""The running system that all end-to-end tests share: on the embedded transport always, on Apache Pulsar in CI."""

from collections.abc import Iterator

import pytest

from tests.support import system as running
from tests.support.system import System


@pytest.fixture(scope="session", params=["embedded", pytest.param("pulsar", marks=pytest.mark.pulsar)])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """`jobber up`, ready."""
    # The job type of examples/ lives outside the core.
    modules = {"JOBBER_JOB_MODULES": "examples.supplier_catalog.supplier_catalog"}
    started = running.start(tmp_path_factory.mktemp("up") / "data", "--broker", request.param, environment=modules)
    yield started
    assert started.stop() == 0, started.said()
