"""A forgotten or weak secret, or an address that is none, stops the start with a sentence: which, and how to set it."""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from jobber.settings import AuthSettings, ExecutorSettings, JobsSettings, ProductsSettings, TransportSettings, reasons
from tests.support.system import ROOT, command

SECRET = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zAaB3dE5gH7"
#: What would start if PostgreSQL and Pulsar were there.
WHOLE = {"JWT_SECRET": SECRET, "DATABASE_URL": "postgresql://u@127.0.0.1:1/x", "PULSAR_SERVICE_URL": "pulsar://127.0.0.1:1"}
READ: Mapping[str, tuple[type[Any], ...]] = {
    "auth": (AuthSettings,),
    "jobs": (JobsSettings, TransportSettings),
    "products": (ProductsSettings,),
    "executor": (ExecutorSettings, TransportSettings),
}
MAKE = "secrets.token_urlsafe(48)"
PLACE = "postgresql://host:5432/name"
GUESSED = {"JWT_SECRET": "changeme-changeme-changeme-changeme-x", "JOBBER_MODE": "production"}

Wrong = Mapping[str, str | None]
CASES: list[tuple[str, Wrong, tuple[str, ...]]] = [
    *((service, {"JWT_SECRET": None}, ("JWT_SECRET", "not set", MAKE)) for service in READ),
    *((service, {"JWT_SECRET": "short"}, ("JWT_SECRET", "32", MAKE)) for service in READ),
    *((service, GUESSED, ("JWT_SECRET", "example", MAKE)) for service in READ),
    *((service, {"DATABASE_URL": None}, ("DATABASE_URL", "not set", PLACE)) for service in ("auth", "jobs", "products")),
    *((service, {"DATABASE_URL": ""}, ("DATABASE_URL", "empty", PLACE)) for service in ("auth", "jobs", "products")),
    *(
        (service, {"DATABASE_URL": "hunter2"}, ("DATABASE_URL", "no address", PLACE))
        for service in ("auth", "jobs", "products")
    ),
]
for working in ("jobs", "executor"):
    away = {"PULSAR_SERVICE_URL": None, "JOBBER_TRANSPORT": "pulsar"}
    CASES.append((working, away, ("PULSAR_SERVICE_URL", "not set", "pulsar://host:6650")))
    CASES.append((working, {"PULSAR_SERVICE_URL": "hunter2"}, ("PULSAR_SERVICE_URL", "begins with", "pulsar://host:6650")))
    CASES.append((working, {"JOBBER_BLOBS_URL": "hunter2"}, ("JOBBER_BLOBS_URL", "begins with", "s3://bucket/prefix")))
    CASES.append((working, {"JOBBER_PULSAR_PARTITIONS": "4"}, ("JOBBER_PULSAR_ADMIN_URL", "needs", "http://host:8080")))
NOTHING: Wrong = {"PULSAR_SERVICE_URL": None, "DATABASE_URL": None}
CASES.append(("executor", NOTHING, ("PULSAR_SERVICE_URL", "set", "JOBBER_TRANSPORT")))


def given(wrong: Wrong) -> dict[str, str]:
    return {name: value for name, value in {**WHOLE, **wrong}.items() if value is not None}


@pytest.mark.parametrize(("service", "wrong", "told"), CASES, ids=[f"{service}-{wrong}" for service, wrong, _ in CASES])
def test_a_sentence_says_which_and_how(
    monkeypatch: pytest.MonkeyPatch, service: str, wrong: Wrong, told: tuple[str, ...]
) -> None:
    for name in list(os.environ):
        if name.startswith("JOBBER_") or name in WHOLE:
            monkeypatch.delenv(name)
    for name, value in given(wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refused:
        _ = [settings() for settings in READ[service]]
    ((_, sentence),) = reasons(refused.value)
    assert all(part in sentence for part in told), sentence
    assert "hunter2" not in sentence


@pytest.mark.parametrize(
    ("service", "wrong", "told"),
    [(service, *next((wrong, told) for name, wrong, told in reversed(CASES) if name == service)) for service in READ],
    ids=list(READ),
)
def test_the_process_ends_with_that_sentence(service: str, wrong: Wrong, told: tuple[str, ...]) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **given(wrong)}
    done = subprocess.run(command(service), env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (line,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert line["action"] == "failed"
    assert all(part in line["message"] for part in told), line["message"]
    assert "hunter2" not in done.stderr
