"""The enums of jobs, each value with what it means."""

from api.graphql.types import described_enum

JobStatus = described_enum(
    "JobStatus",
    "The original's three values; `state` says more.",
    {
        "IN_PROGRESS": "It has not ended.",
        "COMPLETED": "It has ended, and records were loaded (SUCCEEDED, PARTIAL).",
        "FAILED": "It has ended otherwise (FAILED, CANCELED).",
    },
)
#: What each state means, in a sentence.
STATES = {
    "QUEUED": "It waits for its turn.",
    "VALIDATING": "Its input is read through and cut into batches.",
    "RUNNING": "Batches are with executors, or about to be.",
    "PAUSED": "No further batch is dispatched until it is resumed.",
    "CANCELING": "It is being closed; rows may still appear until it has ended.",
    "CANCELED": "It was cancelled; no further row appears.",
    "SUCCEEDED": "Every record was loaded.",
    "PARTIAL": "Some records were loaded and some rejected, within the job's limits.",
    "FAILED": "Its input could not be loaded, or more was rejected than the job allows; `error` says why.",
}
JobState = described_enum(
    "JobState",
    "Where a job is. CANCELED, SUCCEEDED, PARTIAL and FAILED are terminal, and never change.",
    STATES,
)
RowOutcome = described_enum(
    "RowOutcome",
    "What became of a record.",
    {
        "INSERTED": "A new row.",
        "UPDATED": "An existing row was changed.",
        "UNCHANGED": "The row was as the record has it.",
        "REJECTED": "The record broke a rule.",
        "UNPROCESSED": "The job ended before it came to the record.",
    },
)
WriteMode = described_enum(
    "WriteMode",
    "How records meet rows that are there already.",
    {
        "INSERT": "Every record becomes a new row.",
        "UPSERT": "A record replaces the row of the same keys, or becomes a new one.",
        "UPDATE": "A record changes the row of the same keys; without one it is rejected.",
    },
)
Atomicity = described_enum(
    "Atomicity",
    "What becomes visible together.",
    {"BATCH": "Each batch by itself, as soon as it is committed.", "ALL_OR_NOTHING": "The whole job at its end, or nothing."},
)
FileFormat = described_enum(
    "FileFormat",
    "How records are written.",
    {
        "CSV": "RFC 4180, with a header.",
        "NDJSON": "One JSON object a line.",
        "JSON": "One array of objects.",
        "PARQUET": "Apache Parquet.",
    },
)
Compression = described_enum(
    "Compression", "How a file is packed.", {"NONE": "It is not.", "GZIP": "RFC 1952.", "ZSTD": "RFC 8878."}
)
Priority = described_enum(
    "Priority",
    "Which of one's jobs come first; others' jobs get their fair share all the same.",
    {"LOW": "After all others.", "NORMAL": "In the order of submission.", "HIGH": "Before all others."},
)
