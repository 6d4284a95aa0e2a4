"""The main dataflow."""

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource
from bytewax.outputs import DynamicSink

from pipelines.steps import Steps
from pipelines.work import Flight


def load_flow(source: DynamicSource[Flight], steps: Steps, bulk_write: DynamicSink[Flight]) -> Dataflow:
    """Transport -> claim -> read -> decode -> check -> enrich -> bulk write; what fails its contract travels along as rejects.

    An item is a flight: batches that travel together, with the deliveries that brought them. The sink keeps several flights
    on their way, and acknowledges each after its commit.
    """
    flow = Dataflow("load")
    received = op.input("transport", flow, source)
    claimed = op.flat_map("claim", received, steps.claim)
    read = op.map("read", claimed, steps.read)
    decoded = op.map("decode", read, steps.decode)
    checked = op.map("check", decoded, steps.check)
    enriched = op.map("enrich", checked, steps.enrich)
    op.output("bulk_write", enriched, bulk_write)
    return flow
