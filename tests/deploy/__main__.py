"""Judge deploy/ without a container engine: `python -m tests.deploy [NAME …]`; without names everything.

helm lint and kubernetes-validate on every set of values, kube-score, the schema of the values; hadolint; the schema of compose
files; whether what is deployed starts the commands, and sets the variables, that the services have; promtool on alerts, the
dashboard's queries and what running services tell.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from pydantic import AliasChoices

from jobber.cli.app import app
from jobber.job import discover
from jobber.settings import AuthSettings, ExecutorSettings, JobsSettings, ProductsSettings, TransportSettings
from jobber.transport.pulsar import SUBSCRIPTION, _topic
from tests.deploy import alerts
from tests.deploy.tools import ROOT, Failed, documents, go_tool, python_tool, run
from tests.support import system as running
from tests.support.system import ended

CHART, KUBERNETES = "deploy/chart", "1.34"
SETS = {path.name.removesuffix("-values.yaml"): str(path) for path in sorted((ROOT / CHART / "ci").glob("*.yaml"))}
#: Kinds that Kubernetes itself does not know.
CUSTOM = {"ScaledObject", "ServiceMonitor", "PrometheusRule", "Cluster"}
SETTINGS: dict[str, tuple[Any, ...]] = {
    "auth": (AuthSettings,),
    "jobs": (JobsSettings, TransportSettings),
    "executor": (ExecutorSettings, TransportSettings),
    "products": (ProductsSettings,),
}
#: Read by obstore, not by us.
STORE = ("AWS_", "GOOGLE_", "AZURE_")
#: Bad value -> what the refusal must name.
BAD = {
    "blobs.url=ftp://x": "url",
    "auth.replicas=-1": "replicas",
    "settings.JWT_SECRET=x": "JWT_SECRET",
    "image.tag=latest": "tag",
    "pulsar.serviceUrl=http://x": "serviceUrl",
    "secrets.jwt=abc": "jwt",
    "executor.resource=1": "resource",
}


def chart() -> str:
    """helm lint --strict on every set of values."""
    helm = go_tool("helm")
    for values in SETS.values():
        run(helm, "lint", "--strict", CHART, "--values", values)
    return f"{len(SETS)} sets of values: {', '.join(SETS)}"


def manifests() -> str:
    """kubernetes-validate --strict on what the chart renders."""
    count = 0
    for name in SETS:
        known = [json.dumps(document) for document in rendered(name) if document["kind"] not in CUSTOM]
        run(python_tool("kubernetes-validate"), "-k", KUBERNETES, "--strict", "-", stdin="\n---\n".join(known))
        count += len(known)
    return f"{count} manifests are valid"


def score() -> str:
    """kube-score on what the chart renders."""
    for name in SETS:
        text = template(name)
        # Images have a fixed tag, and are not pulled anew.
        ignored = ("--ignore-test", "container-image-pull-policy", "--ignore-test", "networkpolicy-targets-pod")
        run(go_tool("kube-score"), "score", "--output-format", "ci", *ignored, "-", stdin=text)
    return "nothing critical"


def refusals() -> str:
    """Bad values are refused by the schema, by their names; what must be given is missed."""
    for value, named in {**BAD, "secrets.existing=": "secrets.existing", "blobs.url=": "blobs.url"}.items():
        try:
            helm_template("--values", SETS["minimal"], "--set", value)
        except Failed as fault:
            # The first line is the command, with the value in it.
            said = str(fault).partition("\n")[2]
            if named not in said:
                raise Failed(f"{value} is refused without its name: {said}") from None
        else:
            raise Failed(f"{value} is taken")
    return f"{len(BAD) + 2} bad values are refused by their names"


def variables() -> str:
    """What is deployed starts commands that there are, and sets variables that they read; what they require is set."""
    seen = 0
    for where, role, command, names in deployed():
        if command not in app.commands:
            raise Failed(f"{where}: there is no command {command!r}")
        if role not in SETTINGS:
            continue
        known, required = read_by(role)
        unknown = {name for name in names if name not in known and not name.startswith(STORE)}
        if unknown:
            raise Failed(f"{where}: {role} does not read {sorted(unknown)}")
        if absent := required - names:
            raise Failed(f"{where}: {role} needs {sorted(absent)}")
        seen += 1
    return f"{seen} services get what they read"


def deployed() -> Iterator[tuple[str, str, str, set[str]]]:
    """Where, role, command and variables of every container of ours."""
    for name in SETS:
        for document in rendered(name):
            if document["kind"] in ("Deployment", "Job"):
                (container,) = document["spec"]["template"]["spec"]["containers"]
                names = {item["name"] for item in container["env"]}
                yield f"chart {name}", container["name"], container["args"][0], names
    (compose,) = documents((ROOT / "deploy/compose.yaml").read_text())
    services: Any = compose["services"]
    for role, service in services.items():
        if role in SETTINGS:
            # The anchor has the variables of all four.
            names = set(service["environment"])
            known, _ = read_by(role)
            yield "compose", role, service["command"][0], {item for item in names if item in known or item not in all_read()}


def read_by(role: str) -> tuple[set[str], set[str]]:
    """Variables that a service reads, and those that it needs."""
    known: set[str] = set()
    required: set[str] = set()
    for settings in SETTINGS[role]:
        for field, info in settings.model_fields.items():
            alias = info.validation_alias
            choices = alias.choices if isinstance(alias, AliasChoices) else ()
            names = {name for name in choices if isinstance(name, str) and name.isupper()} or {f"JOBBER_{field.upper()}"}
            known |= names
            if info.is_required():
                required |= names
    return known, required


def all_read() -> set[str]:
    """Variables that any service reads."""
    return set().union(*(read_by(role)[0] for role in SETTINGS))


def image() -> str:
    """hadolint on the Dockerfile."""
    run(python_tool("hadolint"), "deploy/Dockerfile")
    return "no warning"


def compose() -> str:
    """The schema of compose files."""
    run(python_tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")
    return "valid"


def triggers() -> str:
    """KEDA looks at the topics that the services use."""
    found = 0
    for document in rendered("keda"):
        if document["kind"] != "ScaledObject":
            continue
        for trigger in document["spec"]["triggers"]:
            topic, subscription = trigger["metadata"]["topic"], trigger["metadata"]["subscription"]
            name = topic.rpartition("/jobber.")[2]
            if (
                topic != _topic("public/default", name)
                or subscription != SUBSCRIPTION
                or name.partition(".")[0] not in discover()
            ):
                raise Failed(f"nobody uses {topic} with the subscription {subscription}")
            found += 1
    if not found:
        raise Failed("there are no triggers")
    return f"{found} topics that there are"


def metrics() -> str:
    """promtool on what running services answer at /metrics, after a job."""
    promtool = go_tool("promtool")
    with tempfile.TemporaryDirectory() as folder:
        system = running.start(Path(folder) / "data")
        try:
            records = [{"name": "good", "price": 1}, {"name": "bad", "price": "x"}]
            ended(system.client, system.client.execute("LoadProducts", records))
            for urls in system.state["http"].values():
                run(promtool, "check", "metrics", stdin=httpx.get(f"{urls[0]}/metrics", trust_env=False).text)
        finally:
            system.stop()
    return "of all four services: no complaint"


def template(name: str) -> str:
    """The manifests of a set of values."""
    return helm_template("--values", SETS[name])


def helm_template(*options: str) -> str:
    """What helm renders; built by hand it takes Kubernetes for a very old one."""
    version = ("--kube-version", f"{KUBERNETES}.0")
    return run(go_tool("helm"), "template", "release", CHART, "--namespace", "jobber", *version, *options)


def rendered(name: str) -> list[Any]:
    """The same, read."""
    return list(documents(template(name)))


JUDGES: dict[str, Callable[[], str]] = {
    judge.__name__: judge
    for judge in (image, compose, chart, manifests, score, refusals, variables, triggers, alerts.rules, alerts.queries, metrics)
}


def main(names: list[str]) -> int:
    """How many judges found something."""
    failed = 0
    for name, judge in JUDGES.items():
        if names and name not in names:
            continue
        began = time.monotonic()
        try:
            said = judge()
        except Failed as fault:
            failed, said = failed + 1, f"FAILED\n{fault}"
        print(f"{name:10} {time.monotonic() - began:5.1f} s  {said}", flush=True)
    return failed


if __name__ == "__main__":
    assert Path("deploy").is_dir()
    sys.exit(main(sys.argv[1:]))
