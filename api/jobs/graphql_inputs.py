"""What the mutations and lists of jobs take (api/jobs/schema.graphql is the snapshot)."""

import json
from typing import Any

import graphene

from api.graphql.scalars import JSON, DateTime, Long
from api.jobs.graphql_enums import Atomicity, Compression, FileFormat, JobState, Priority, WriteMode


class LoadOptions(graphene.InputObjectType):
    """How an input is to be read and written."""

    mode = graphene.InputField(WriteMode, default_value="INSERT")
    keys = graphene.List(graphene.NonNull(graphene.String))
    mapping = JSON(description="Contract column -> input column.")
    format = graphene.InputField(FileFormat, description="Where the content does not tell; as in a source.")
    delimiter = graphene.String()
    quote = graphene.String()
    encoding = graphene.String()
    dry_run = graphene.Boolean(default_value=False)
    atomicity = graphene.InputField(Atomicity, default_value="BATCH")
    max_errors = Long()
    max_error_ratio = graphene.Float()
    max_rows_per_second = graphene.Int(
        description="Records are let out no faster than this, over all replicas; at once at most a batch of about a second."
    )
    priority = graphene.InputField(Priority, default_value="NORMAL")
    run_at = DateTime()
    webhook_url = graphene.String()


class ExecuteJobInput(graphene.InputObjectType):
    """What executeJob takes."""

    name = graphene.String(required=True)
    data = JSON(required=True, description='JSON text or value: records, one record, or {"fileName": "…"}.')
    idempotency_key = graphene.String()
    options = graphene.InputField(LoadOptions)


class SourceInput(graphene.InputObjectType):
    """Where the records are; exactly one of rows, uploadId, url."""

    rows = JSON()
    upload_id = graphene.ID()
    url = graphene.String()
    format = graphene.InputField(FileFormat)
    compression = graphene.InputField(Compression)


class SubmitJobInput(graphene.InputObjectType):
    """What jobSubmit takes."""

    name = graphene.String(required=True)
    source = graphene.InputField(SourceInput, required=True)
    options = graphene.InputField(LoadOptions)
    idempotency_key = graphene.String(required=True)


class JobFilter(graphene.InputObjectType):
    """Which jobs to list."""

    name = graphene.String()
    states = graphene.List(graphene.NonNull(JobState))
    created_after = DateTime()


def json_value(raw: object) -> Any:
    """A JSON scalar's value, decoded."""
    return json.loads(bytes(raw)) if raw is not None else None  # type: ignore[call-overload]
