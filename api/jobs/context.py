"""What a GraphQL request of this room carries, and what its resolvers may reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from aiodataloader import DataLoader

from api.identity import Caller, Identity
from api.jobs.changes import Changes
from api.jobs.dead_letters import DeadLetters
from api.jobs.dispatch import Dispatcher
from api.jobs.following import Following
from api.jobs.lineage import Lineage
from api.jobs.model import Job
from api.jobs.products_client import ProductsClient
from api.jobs.rejects import Rejects
from api.jobs.replay import Replays
from api.jobs.staging import Staging
from api.jobs.store import Store
from api.jobs.submission import Desk
from jobber.credentials import Tls, service_token
from jobber.errors import Unauthenticated, Unavailable
from jobber.job import JobType
from jobber.settings import JobsSettings
from protos import client
from protos.jobber.auth.v1 import auth_pb2
from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceStub

if TYPE_CHECKING:  # The stubs' alone: at run time there is no such name.
    from protos.jobber.auth.v1.auth_pb2_grpc import AuthServiceAsyncStub


@dataclass(frozen=True, slots=True)
class Person:
    """A user as jobs knows one."""

    id: str
    email: str
    role: str


class Directory:
    """Looks users up in auth."""

    def __init__(self, addresses: str, jwt_secret: str, tls: Tls | None = None) -> None:
        self._channel = client.aio_channel(addresses, tls)
        self._stub: AuthServiceAsyncStub = AuthServiceStub(self._channel)
        self._metadata = client.credential(service_token(jwt_secret))

    async def people(self, ids: Sequence[str]) -> Mapping[str, Person]:
        """The users of these ids, as far as they are known. Raises Unavailable."""
        try:
            answer = await self._stub.GetUsers(auth_pb2.GetUsersRequest(ids=ids), timeout=5, metadata=self._metadata)
        except grpc.aio.AioRpcError as fault:
            raise Unavailable("The auth service does not answer; try again in a moment.") from fault
        return {
            user.id: Person(user.id, user.email, auth_pb2.Role.Name(user.role).removeprefix("ROLE_")) for user in answer.users
        }

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


class People(DataLoader[str, Person]):
    """Users by id, many in one call, once a request."""

    def __init__(self, directory: Directory) -> None:
        super().__init__()
        self._directory = directory

    async def batch_load_fn(self, keys: list[str]) -> list[Person]:
        """In the order of the keys; a user that auth does not know any more keeps the id."""
        found = await self._directory.people(keys)
        return [found.get(key, Person(key, "", "MEMBER")) for key in keys]


class JobsById(DataLoader[str, Job | None]):
    """Jobs by id that the caller may see, many in one query, once a request."""

    def __init__(self, store: Store, sees: str | None) -> None:
        super().__init__()
        self._store = store
        self._sees = sees

    async def batch_load_fn(self, keys: list[str]) -> list[Job | None]:
        """In the order of the keys; None for what is not there or not the caller's."""
        found = {job.id: job for job in await self._store.jobs_by_id(keys, self._sees)}
        return [found.get(key) for key in keys]


@dataclass(frozen=True, slots=True)
class Services:
    """What lives as long as the process."""

    settings: JobsSettings
    kinds: Mapping[str, JobType]
    store: Store
    desk: Desk
    rejects: Rejects
    dispatcher: Dispatcher
    directory: Directory
    changes: Changes
    identity: Identity
    products: ProductsClient
    lineage: Lineage
    following: Following
    dead_letters: DeadLetters
    staging: Staging
    replays: Replays


@dataclass(slots=True)
class Context:
    """One request's."""

    services: Services
    #: None: nobody is logged in.
    caller: Caller | None
    #: Where this service is, as the caller reached it.
    base_url: str
    #: What the caller showed.
    token: str | None = None
    users: People = field(init=False)
    _jobs: JobsById | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.users = People(self.services.directory)
        if self.caller:
            self.users.prime(self.caller.id, Person(self.caller.id, self.caller.email, self.caller.role))

    @property
    def jobs(self) -> JobsById:
        """Loads jobs that the caller may see. Raises Unauthenticated, Forbidden."""
        if self._jobs is None:
            self._jobs = JobsById(self.store, self.sees)
        return self._jobs

    async def check(self) -> None:
        """Raises Unauthenticated once the caller's session has ended: what runs for long asks again and again."""
        if self.token is not None:
            await self.services.identity.recheck(self.token)

    @property
    def store(self) -> Store:
        """Jobs and uploads."""
        return self.services.store

    @property
    def rejects(self) -> Rejects:
        """Rejects and results."""
        return self.services.rejects

    @property
    def who(self) -> Caller:
        """The caller. Raises Unauthenticated."""
        if self.caller is None:
            raise Unauthenticated
        return self.caller

    @property
    def sees(self) -> str | None:
        """Whose jobs the caller may see: their own; an ADMIN everybody's (None). Raises Unauthenticated, Forbidden."""
        return self.who.sees

    def may_submit(self) -> str:
        """The caller's id, unless their role only lets them look. Raises Unauthenticated, Forbidden."""
        self.who.check_writes()
        return self.who.id

    def expires(self, job: Job) -> datetime:
        """When the job's input and rejects may be deleted."""
        return (job.ended_at or job.created_at) + timedelta(days=self.services.settings.retention_days)
