import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchKey(_message.Message):
    __slots__ = ("job_id", "batch_no")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_NO_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    batch_no: int
    def __init__(self, job_id: _Optional[str] = ..., batch_no: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("key", "inserted", "updated", "unchanged", "rejected", "rejects", "results", "committed_at", "staged")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INSERTED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REJECTS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_AT_FIELD_NUMBER: _ClassVar[int]
    STAGED_FIELD_NUMBER: _ClassVar[int]
    key: BatchKey
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    rejects: bytes
    results: bytes
    committed_at: _timestamp_pb2.Timestamp
    staged: int
    def __init__(self, key: _Optional[_Union[BatchKey, _Mapping]] = ..., inserted: _Optional[int] = ..., updated: _Optional[int] = ..., unchanged: _Optional[int] = ..., rejected: _Optional[int] = ..., rejects: _Optional[bytes] = ..., results: _Optional[bytes] = ..., committed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., staged: _Optional[int] = ...) -> None: ...
