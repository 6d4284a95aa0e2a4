"""What can go wrong, as types.

    JobberError
    ├── Terminal                asking again cannot help
    │   ├── UnknownJob          no job type of that name
    │   ├── InvalidData         the submission cannot become a job
    │   ├── NotFound            no such thing, or not the caller's
    │   ├── Forbidden           the caller's role does not allow it
    │   ├── Unauthenticated     no good token
    │   ├── Conflict            same idempotency key, other payload
    │   ├── InvalidState        the job's state does not allow it
    │   ├── UploadIncomplete    the upload has not all its bytes yet
    │   ├── QuotaExceeded       more than the caller may use
    │   ├── UnsupportedMedia    a kind of file that is never loaded
    │   └── StructureFault      a file as a whole cannot be loaded
    └── Transient               asking again may help
        ├── RateLimited         too often in too short a time
        ├── Unavailable         a service, broker or database does not answer
        └── DiskFull            no room; nothing half-kept

A bad record is not an error: it is a reject, and travels as data.
"""

from typing import ClassVar


class JobberError(Exception):
    """Jobber could not do what was asked."""

    #: The public code: ErrorCode in GraphQL where there is one.
    code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])

    @property
    def message(self) -> str:
        """What happened, in a sentence that a person can act on."""
        return str(self.args[0])


class Terminal(JobberError):
    """Asking again cannot help."""


class Transient(JobberError):
    """Asking again may help."""


class UnknownJob(Terminal):
    """There is no job type of that name."""

    code = "UNKNOWN_JOB"


class InvalidData(Terminal):
    """The submission cannot become a job."""

    code = "INVALID_DATA"


class NotFound(Terminal):
    """There is no such thing, or it is not yours."""

    code = "NOT_FOUND"


class Forbidden(Terminal):
    """Your role does not allow this."""

    code = "FORBIDDEN"


class Unauthenticated(Terminal):
    """Log in first: there is no good token with this request."""

    code = "UNAUTHENTICATED"


class Conflict(Terminal):
    """This idempotency key was used before, with another payload."""

    code = "IDEMPOTENCY_CONFLICT"


class InvalidState(Terminal):
    """The job's state does not allow this."""

    code = "INVALID_STATE"


class UploadIncomplete(Terminal):
    """The upload has not all its bytes yet."""

    code = "UPLOAD_INCOMPLETE"


class QuotaExceeded(Terminal):
    """That is more than you may use."""

    code = "QUOTA_EXCEEDED"


class UnsupportedMedia(Terminal):
    """A zip archive is not loaded: unpack it and upload the file itself."""

    code = "INVALID_DATA"


class StructureFault(Terminal):
    """The file as a whole cannot be loaded, so that none of it was."""

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        #: Why, as a constant: HEADER, ENCODING, QUOTE, SYNTAX, EMPTY, ...
        self.fault = fault


class RateLimited(Transient):
    """Too many attempts; try again later."""

    code = "RATE_LIMITED"

    def __init__(self, message: str | None = None, *, retry_after: int = 60) -> None:
        super().__init__(message)
        #: Seconds after which it is worth asking again.
        self.retry_after = retry_after


class Unavailable(Transient):
    """A service, the broker or the database does not answer."""

    code = "UNAVAILABLE"


class DiskFull(Transient):
    """There is no room to store this; nothing of it was kept."""

    code = "DISK_FULL"
