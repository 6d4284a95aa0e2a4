"""What an API token may do: never more than the role of who made it, and only what its scopes name."""

from collections.abc import Mapping

JOBS_READ = "jobs:read"
JOBS_WRITE = "jobs:write"
ADMIN_READ = "admin:read"
ADMIN_WRITE = "admin:write"

#: Every scope, and what it allows.
SCOPES: Mapping[str, str] = {
    JOBS_READ: "see jobs, their rejects and downloads, and follow them",
    JOBS_WRITE: "submit, cancel, pause and resume jobs, and upload files",
    ADMIN_READ: "see users and the audit trail, where the role is ADMIN",
    ADMIN_WRITE: "make and disable users, where the role is ADMIN",
}
