from protos.jobber.v1 import receipt_pb2 as _receipt_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobSpec(_message.Message):
    __slots__ = ("job_id", "name", "args", "layout", "lookups", "writing")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    LOOKUPS_FIELD_NUMBER: _ClassVar[int]
    WRITING_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    name: str
    args: bytes
    layout: bytes
    lookups: bytes
    writing: bytes
    def __init__(self, job_id: _Optional[str] = ..., name: _Optional[str] = ..., args: _Optional[bytes] = ..., layout: _Optional[bytes] = ..., lookups: _Optional[bytes] = ..., writing: _Optional[bytes] = ...) -> None: ...

class Source(_message.Message):
    __slots__ = ("inline", "blob")
    INLINE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    inline: bytes
    blob: BlobRange
    def __init__(self, inline: _Optional[bytes] = ..., blob: _Optional[_Union[BlobRange, _Mapping]] = ...) -> None: ...

class BlobRange(_message.Message):
    __slots__ = ("key", "offset", "length")
    KEY_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    key: str
    offset: int
    length: int
    def __init__(self, key: _Optional[str] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class ClaimPlanRequest(_message.Message):
    __slots__ = ("job_id", "dispatch_no", "executor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_NO_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    dispatch_no: int
    executor: str
    def __init__(self, job_id: _Optional[str] = ..., dispatch_no: _Optional[int] = ..., executor: _Optional[str] = ...) -> None: ...

class ClaimPlanResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: PlanTask
    def __init__(self, task: _Optional[_Union[PlanTask, _Mapping]] = ...) -> None: ...

class PlanTask(_message.Message):
    __slots__ = ("job", "source", "batch_bytes", "batch_rows", "attempt")
    JOB_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    BATCH_ROWS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    job: JobSpec
    source: Source
    batch_bytes: int
    batch_rows: int
    attempt: int
    def __init__(self, job: _Optional[_Union[JobSpec, _Mapping]] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., batch_bytes: _Optional[int] = ..., batch_rows: _Optional[int] = ..., attempt: _Optional[int] = ...) -> None: ...

class RenewPlanRequest(_message.Message):
    __slots__ = ("job_id", "dispatch_no")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_NO_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    dispatch_no: int
    def __init__(self, job_id: _Optional[str] = ..., dispatch_no: _Optional[int] = ...) -> None: ...

class RenewPlanResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: bool
    def __init__(self, held: _Optional[bool] = ...) -> None: ...

class PlannedBatch(_message.Message):
    __slots__ = ("offset", "length", "first_row", "rows", "sha256", "digest", "plain")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    offset: int
    length: int
    first_row: int
    rows: int
    sha256: bytes
    digest: bytes
    plain: bool
    def __init__(self, offset: _Optional[int] = ..., length: _Optional[int] = ..., first_row: _Optional[int] = ..., rows: _Optional[int] = ..., sha256: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., plain: _Optional[bool] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("layout", "batches", "warnings", "blob_key")
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    BLOB_KEY_FIELD_NUMBER: _ClassVar[int]
    layout: bytes
    batches: _containers.RepeatedCompositeFieldContainer[PlannedBatch]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    blob_key: str
    def __init__(self, layout: _Optional[bytes] = ..., batches: _Optional[_Iterable[_Union[PlannedBatch, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., blob_key: _Optional[str] = ...) -> None: ...

class PlanFailure(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RecordPlanRequest(_message.Message):
    __slots__ = ("job_id", "plan", "failure")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    plan: Plan
    failure: PlanFailure
    def __init__(self, job_id: _Optional[str] = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., failure: _Optional[_Union[PlanFailure, _Mapping]] = ...) -> None: ...

class RecordPlanResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Dispatch(_message.Message):
    __slots__ = ("key", "dispatch_no")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DISPATCH_NO_FIELD_NUMBER: _ClassVar[int]
    key: _receipt_pb2.BatchKey
    dispatch_no: int
    def __init__(self, key: _Optional[_Union[_receipt_pb2.BatchKey, _Mapping]] = ..., dispatch_no: _Optional[int] = ...) -> None: ...

class ClaimRequest(_message.Message):
    __slots__ = ("dispatches", "executor")
    DISPATCHES_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    dispatches: _containers.RepeatedCompositeFieldContainer[Dispatch]
    executor: str
    def __init__(self, dispatches: _Optional[_Iterable[_Union[Dispatch, _Mapping]]] = ..., executor: _Optional[str] = ...) -> None: ...

class ClaimResponse(_message.Message):
    __slots__ = ("batches", "jobs")
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    batches: _containers.RepeatedCompositeFieldContainer[ClaimedBatch]
    jobs: _containers.RepeatedCompositeFieldContainer[JobSpec]
    def __init__(self, batches: _Optional[_Iterable[_Union[ClaimedBatch, _Mapping]]] = ..., jobs: _Optional[_Iterable[_Union[JobSpec, _Mapping]]] = ...) -> None: ...

class ClaimedBatch(_message.Message):
    __slots__ = ("key", "attempt", "source", "first_row", "rows", "sha256", "digest", "plain")
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_ROW_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    PLAIN_FIELD_NUMBER: _ClassVar[int]
    key: _receipt_pb2.BatchKey
    attempt: int
    source: Source
    first_row: int
    rows: int
    sha256: bytes
    digest: bytes
    plain: bool
    def __init__(self, key: _Optional[_Union[_receipt_pb2.BatchKey, _Mapping]] = ..., attempt: _Optional[int] = ..., source: _Optional[_Union[Source, _Mapping]] = ..., first_row: _Optional[int] = ..., rows: _Optional[int] = ..., sha256: _Optional[bytes] = ..., digest: _Optional[bytes] = ..., plain: _Optional[bool] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("dispatches",)
    DISPATCHES_FIELD_NUMBER: _ClassVar[int]
    dispatches: _containers.RepeatedCompositeFieldContainer[Dispatch]
    def __init__(self, dispatches: _Optional[_Iterable[_Union[Dispatch, _Mapping]]] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: bool
    def __init__(self, held: _Optional[bool] = ...) -> None: ...

class BatchFailure(_message.Message):
    __slots__ = ("key", "code", "message")
    KEY_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    key: _receipt_pb2.BatchKey
    code: str
    message: str
    def __init__(self, key: _Optional[_Union[_receipt_pb2.BatchKey, _Mapping]] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("receipts", "failures")
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    receipts: _containers.RepeatedCompositeFieldContainer[_receipt_pb2.Receipt]
    failures: _containers.RepeatedCompositeFieldContainer[BatchFailure]
    def __init__(self, receipts: _Optional[_Iterable[_Union[_receipt_pb2.Receipt, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[BatchFailure, _Mapping]]] = ...) -> None: ...

class AcknowledgeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RefusedMessage(_message.Message):
    __slots__ = ("topic", "body", "reason")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    topic: str
    body: bytes
    reason: str
    def __init__(self, topic: _Optional[str] = ..., body: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class RefuseRequest(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RefusedMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[RefusedMessage, _Mapping]]] = ...) -> None: ...

class RefuseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
