"""Settings, from the environment, read once at start. One class per service; docs/settings.md lists them.

Names without a prefix are contracts with outsiders; all others begin with JOBBER_.
"""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobber.credentials import Tls
from jobber.errors import InvalidData

#: RFC 7518 3.2: a key for HS256 has at least 256 bits.
MIN_SECRET_BYTES = 32
#: A random text of that length has more; fewer are a key held down, or a word said over and over.
MIN_SECRET_CHARACTERS = 10
#: What examples in documents and compose files are made of. They are known to everybody who can read.
EXAMPLE_SECRET = re.compile(
    r"change.?me|change.?this|replace.?me|replace.?this|example|placeholder|insecure|dummy|your.?(own|jwt|super|secret|256)"
    r"|super.?secret|my.?secret|secret.?key|jwt.?secret|(dev|test|demo).?secret|password|0123456789|1234567890|abcdefghij|qwerty",
    re.IGNORECASE,
)
_HOW = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
#: How each that has no default is set.
HOW = {
    "JWT_SECRET": f"the same for all services; {_HOW}",
    "DATABASE_URL": "set it to postgresql://host:5432/name, with user and password before the host",
}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServiceSettings(BaseSettings):
    """What every service reads."""

    model_config = SettingsConfigDict(env_prefix="JOBBER_", extra="ignore", frozen=True, populate_by_name=True)

    #: Signs tokens and proves one service to another. At least 32 bytes.
    jwt_secret: str = Field(validation_alias=AliasChoices("jwt_secret", "JWT_SECRET"))
    #: Address that HTTP and gRPC listen on.
    host: str = "127.0.0.1"
    #: `development` shows GraphiQL, introspection and gRPC reflection; `production` does not.
    mode: Literal["development", "production"] = "development"
    #: Modules with further job types, separated by commas.
    job_modules: Annotated[tuple[str, ...], NoDecode] = ()
    #: Seconds that a service waits at start for what it depends on before it gives up.
    start_timeout: float = 300
    #: Seconds that a stopping service goes on serving while it is not ready any more, until load balancers have noticed.
    drain_delay: float = Field(default=0, ge=0)
    #: Seconds that it gives what is in flight after that.
    grace: float = 20
    #: PEM file of the authority whose certificates gRPC takes, from services and clients alike (mTLS); with the next two.
    grpc_authority: Path | None = None
    #: PEM file of this service's certificate.
    grpc_certificate: Path | None = None
    #: PEM file of its key.
    grpc_key: Path | None = None
    #: OTLP collector that traces are sent to over HTTP, `http://host:4318` for one; none: nothing is traced. The SDK's other
    #: OTEL_ variables are honoured (OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS).
    otlp_endpoint: str | None = Field(
        default=None, validation_alias=AliasChoices("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT")
    )
    #: How: JSON, a line an event, or text for people; `auto` is text on a terminal and JSON elsewhere.
    log_format: Literal["auto", "json", "text"] = "auto"
    #: The least that is logged.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("job_modules", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("jwt_secret")
    @classmethod
    def _long_enough(cls, value: str) -> str:
        if len(value.encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"JWT_SECRET has {len(value.encode())} bytes and needs at least {MIN_SECRET_BYTES}; {_HOW}")
        return value

    @property
    def tls(self) -> Tls | None:
        """Certificates for gRPC; None: it is not encrypted. Raises InvalidData for a file that cannot be read."""
        if not (self.grpc_authority and self.grpc_certificate and self.grpc_key):
            return None
        return Tls.read(self.grpc_authority, self.grpc_certificate, self.grpc_key)

    @model_validator(mode="after")
    def _all_or_no_certificates(self) -> Self:
        given = [self.grpc_authority, self.grpc_certificate, self.grpc_key]
        if any(given) and not all(given):
            raise ValueError("mTLS needs JOBBER_GRPC_AUTHORITY, JOBBER_GRPC_CERTIFICATE and JOBBER_GRPC_KEY, all three")
        try:
            _ = self.tls
        except InvalidData as fault:
            raise ValueError(fault.message.removesuffix(".")) from fault
        return self

    @model_validator(mode="after")
    def _not_an_example(self) -> Self:
        # On this machine alone, for development, an example does no harm.
        if self.mode == "development" and self.host in _LOOPBACK:
            return self
        if EXAMPLE_SECRET.search(self.jwt_secret) or len(set(self.jwt_secret)) < MIN_SECRET_CHARACTERS:
            raise ValueError(
                "JWT_SECRET looks like an example or can be guessed, and everybody who knows it can sign tokens; it is taken "
                f"only with JOBBER_MODE=development on a loopback address. Instead {_HOW}"
            )
        return self


def _database_url(value: str) -> str:
    """Raises ValueError for what is no address of a database, without showing it: it may hold a password."""
    if not value.startswith(("postgresql://", "postgres://")) and not re.match(r"\s*\w+\s*=", value):
        what = "no address of PostgreSQL" if value.strip() else "empty"
        raise ValueError(f"DATABASE_URL is {what}; {HOW['DATABASE_URL']}")
    return value


def _blobs_url(value: str) -> str:
    """Raises ValueError for what no blob store is behind."""
    if not value.startswith(("file:///", "s3://", "gs://", "az://")):
        raise ValueError("JOBBER_BLOBS_URL begins with file:///, s3://, gs:// or az://; set it to s3://bucket/prefix for one")
    return value


DatabaseUrl = Annotated[str, AfterValidator(_database_url)]
BlobsUrl = Annotated[str, AfterValidator(_blobs_url)]


def reasons(fault: ValidationError) -> list[tuple[str, str]]:
    """What is wrong with the settings: the name of each, and a sentence that says what to do. No value is in it."""
    found = []
    # str(fault) would show the values, secrets too.
    for wrong in fault.errors(include_input=False, include_url=False):
        name = ".".join(str(part) for part in wrong["loc"])
        why = wrong["msg"].removeprefix("Value error, ")
        if wrong["type"] == "missing":
            variable = name if name.isupper() else name.upper()
            why = f"{variable} is not set in the environment, and there is no default; {HOW.get(variable, 'set it')}"
        found.append((name or "settings", f"{why}."))
    return found


class DoorSettings(ServiceSettings):
    """What the services with GraphQL read."""

    #: Proxies whose X-Forwarded-For is believed: addresses or networks, separated by commas. None: nobody's is.
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    #: Folder of Ed25519 keys (`*.pem`) that sign tokens instead of JWT_SECRET: private ones for auth, public ones suffice for
    #: jobs. The one whose file sorts last signs, all of them are taken; auth publishes them at `/.well-known/jwks.json`.
    jwt_keys: Path | None = None
    #: Largest GraphQL request: inline data travels in it.
    graphql_body_bytes: int = Field(default=32 << 20, ge=1024)
    #: Longest query text, in characters; larger data belongs into variables, where it is not parsed as GraphQL.
    graphql_query_chars: int = Field(default=256 << 10, ge=100)
    #: Most tokens of a query text: 50 records of 6 fields, written as literals, are 1,000.
    graphql_tokens: int = Field(default=15_000, ge=100)
    #: Most fields in each other; the introspection query has 15.
    graphql_depth: int = Field(default=20, ge=1)
    #: Most aliases in a query.
    graphql_aliases: int = Field(default=50, ge=0)
    #: Most fields of a query once its fragments are expanded; the introspection query has 250.
    graphql_fields: int = Field(default=1_000, ge=1)
    #: Most fields times the pages that they are on.
    graphql_cost: int = Field(default=100_000, ge=1)
    #: Most mutations in one request: they run one after the other.
    graphql_mutations: int = Field(default=10, ge=1)
    #: Requests a second of one account, on each replica; two seconds' worth may come at once. 0: no limit.
    requests_per_account: float = Field(default=5_000, ge=0)
    #: Requests a second from one address that show no token, on each replica. 0: no limit.
    requests_per_address: float = Field(default=1_000, ge=0)

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        parts = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        for part in parts if isinstance(parts, tuple) else ():
            ip_network(part)  # Its ValueError names the part.
        return parts


class TransportSettings(BaseSettings):
    """Which broker carries the batches."""

    model_config = SettingsConfigDict(env_prefix="JOBBER_", extra="ignore", frozen=True, populate_by_name=True)

    #: Apache Pulsar, `pulsar://host:6650`; when set, it is the transport.
    pulsar_service_url: str | None = Field(
        default=None, validation_alias=AliasChoices("pulsar_service_url", "PULSAR_SERVICE_URL")
    )
    #: `postgres` uses the database at `transport_database_url` instead of Pulsar.
    transport: Literal["pulsar", "postgres"] | None = None
    #: Database of the PostgreSQL transport; DATABASE_URL when not given.
    transport_database_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("transport_database_url", "JOBBER_TRANSPORT_DATABASE_URL", "DATABASE_URL"),
    )
    #: Prefix of Pulsar topics.
    pulsar_namespace: str = "public/default"
    #: Partitions of each topic, so that several brokers share it; made when a topic is first used, and more of them later. 0:
    #: topics are not partitioned.
    pulsar_partitions: int = Field(default=0, ge=0, le=1000)
    #: Pulsar's admin API, `http://host:8080`, which makes the partitions.
    pulsar_admin_url: str | None = None

    @field_validator("pulsar_service_url")
    @classmethod
    def _of_pulsar(cls, value: str | None) -> str | None:
        if value and not value.startswith(("pulsar://", "pulsar+ssl://")):
            raise ValueError("PULSAR_SERVICE_URL begins with pulsar:// or pulsar+ssl://; set it to pulsar://host:6650 for one")
        return value

    @model_validator(mode="after")
    def _some_transport(self) -> Self:
        _ = self.url
        return self

    @model_validator(mode="after")
    def _partitions_need_an_admin(self) -> Self:
        if self.pulsar_partitions and not self.pulsar_admin_url:
            raise ValueError("JOBBER_PULSAR_PARTITIONS needs JOBBER_PULSAR_ADMIN_URL, Pulsar's admin API: http://host:8080")
        return self

    @property
    def url(self) -> str:
        """`pulsar://…` or a PostgreSQL DSN.

        Raises ValueError when neither is configured.
        """
        if self.pulsar_service_url and self.transport != "postgres":
            return self.pulsar_service_url
        if self.transport == "pulsar":
            raise ValueError(
                "JOBBER_TRANSPORT is pulsar and PULSAR_SERVICE_URL is not set; set it to pulsar://host:6650 for one"
            )
        if not self.transport_database_url:
            raise ValueError("set PULSAR_SERVICE_URL, or JOBBER_TRANSPORT=postgres with DATABASE_URL")
        return self.transport_database_url


class AuthSettings(DoorSettings):
    """What the auth service reads."""

    database_url: DatabaseUrl = Field(validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    http_port: int = 3000
    grpc_port: int = 5000
    #: Largest GraphQL request.
    graphql_body_bytes: int = Field(default=1 << 20, ge=1024)
    #: Most mutations in one request: each may be a login.
    graphql_mutations: int = Field(default=5, ge=1)
    #: Hours that a login lasts.
    session_hours: float = 12
    #: E-mail of the admin made at the first start.
    admin_email: str = "admin@jobber.local"
    #: Password of that admin; none is made when it is not set.
    admin_password: str | None = None
    #: Failed logins of one account within `login_window` before it has to wait; all replicas count together. 0: no limit.
    login_failures_per_account: int = Field(default=20, ge=0)
    #: Failed logins from one address (IPv6: one /64 network) within `login_window` before it has to wait. 0: no limit.
    login_failures_per_address: int = Field(default=200, ge=0)
    #: Seconds for which failed logins are counted.
    login_window: float = Field(default=900, gt=0)


class JobsSettings(DoorSettings):
    """What the jobs service reads, with TransportSettings."""

    database_url: DatabaseUrl = Field(validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    http_port: int = 3001
    grpc_port: int = 5002
    auth_grpc_service_url: str = Field(
        default="127.0.0.1:5000", validation_alias=AliasChoices("auth_grpc_service_url", "AUTH_GRPC_SERVICE_URL")
    )
    products_grpc_service_url: str = Field(
        default="127.0.0.1:5001",
        validation_alias=AliasChoices("products_grpc_service_url", "PRODUCTS_GRPC_SERVICE_URL"),
    )
    #: Where inputs are kept: `file:///path`, `s3://bucket/prefix`, `gs://…`, `az://…`.
    blobs_url: BlobsUrl = Path(".jobber/blobs").resolve().as_uri()
    #: Bytes of one batch to aim for: what a batch costs, whatever is in it, is shared by 50,000 rows of a usual size.
    batch_bytes: int = 8 << 20
    #: The most rows of one batch; products takes no more than 100,000.
    batch_rows: int = Field(default=100_000, ge=1, le=100_000)
    #: Batches of one job that are with executors at once.
    job_window: int = 12
    #: Batches of all jobs that are with executors at once.
    window: int = 256
    #: Largest inline input kept in the job's row; a larger one becomes a blob.
    inline_bytes: int = 256 << 10
    #: Largest upload, bytes.
    upload_bytes: int = 20 << 30
    #: Places that everybody who may submit jobs may read inputs from: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///folder`,
    #: separated by commas. None: only uploads and inline data.
    sources: Annotated[tuple[str, ...], NoDecode] = ()
    #: Bytes of uploads that one user may keep, the same content counted once. 0: no limit.
    upload_quota_bytes: int = Field(default=100 << 30, ge=0)
    #: Uploads of one user that are under way at once, those in pieces included that wait for their next piece.
    uploads_at_once: int = Field(default=100, ge=1)
    #: Uploads whose records are looked for while they come, on each replica, so that a job can begin at once. 0: none.
    surveys_at_once: int = Field(default=2, ge=0)
    #: Largest compressed input that is expanded while it comes, bytes; the same as the executors'.
    expanded_bytes: int = Field(default=64 << 30, ge=1)
    #: Hours for which an upload in pieces is waited for after its last one.
    staged_hours: float = Field(default=24, gt=0)
    #: Open subscriptions of one caller, on each replica.
    subscriptions_per_caller: int = Field(default=2000, ge=1)
    #: Days that inputs, rejects and results are kept after a job's end, and uploads that no job uses.
    retention_days: float = Field(default=30, gt=0)
    #: Minutes after which a blob that nothing refers to is deleted: what a kill between a blob and its row left.
    stray_minutes: float = Field(default=60, gt=0)

    @field_validator("sources", mode="before")
    @classmethod
    def _split_sources(cls, value: object) -> object:
        places = tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        for place in places if isinstance(places, tuple) else ():
            if not re.fullmatch(r"((s3|gs|az)://[^/?#@]+|file://)(/[^?#]*)?", place) or place in ("file://", "file:///"):
                raise ValueError("places of sources are s3://bucket/prefix, gs://…, az://… or file:///folder")
        return places


class ProductsSettings(ServiceSettings):
    """What the products service reads."""

    database_url: DatabaseUrl = Field(validation_alias=AliasChoices("database_url", "DATABASE_URL"))
    http_port: int = 3003
    grpc_port: int = 5001
    #: COPY sessions at once; two are faster than one, more are not (benchmarks/copy).
    copy_sessions: int = 2


class ExecutorSettings(ServiceSettings):
    """What the executor reads, with TransportSettings."""

    http_port: int = 3002
    jobs_grpc_service_url: str = Field(
        default="127.0.0.1:5002", validation_alias=AliasChoices("jobs_grpc_service_url", "JOBS_GRPC_SERVICE_URL")
    )
    products_grpc_service_url: str = Field(
        default="127.0.0.1:5001",
        validation_alias=AliasChoices("products_grpc_service_url", "PRODUCTS_GRPC_SERVICE_URL"),
    )
    #: Where inputs are kept; the same as the jobs service's.
    blobs_url: BlobsUrl = Path(".jobber/blobs").resolve().as_uri()
    #: Largest compressed input once it is expanded, bytes: what is larger fails its job.
    expanded_bytes: int = Field(default=64 << 30, ge=1)
    #: Groups of batches that are on their way to a commit at once.
    in_flight: int = 4
    #: Bytes of memory that an executor may take beyond what it has when it starts; with more it ends, alone. 0: no limit.
    memory: int = 4 << 30
    #: Seconds that the dataflow may stand still, in a job type's code for one, before the executor ends itself. 0: for ever.
    stall_seconds: float = 120
    #: Bytes of memory for a batch that is read in a process of its own, because it may have ended executors.
    isolated_memory: int = 1 << 30
    #: Seconds for such a batch, as a whole; parts of it get their share, and at least 3.
    isolated_seconds: float = 30
    #: Job types this executor works for; empty for all.
    only_jobs: Annotated[tuple[str, ...], NoDecode] = ()

    @field_validator("only_jobs", mode="before")
    @classmethod
    def _split_jobs(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value
