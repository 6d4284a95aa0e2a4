"""Job types: what may be asked. `@job` registers one; `discover` finds those that are installed.

@job("LoadProducts", aliases=("LOAD_PRODUCTS",))
class LoadProducts(Args, frozen=True):
    \"\"\"Load product records, enriched with their category's charge.\"\"\"

    contract = Product            # a dataframely.Schema: the rules that a record must meet
    target = "products"           # the table it loads; None when its records are computed
    lookups = ("charges",)        # reference data that is frozen at the job's start

    def enrich(self, records, lookups): ...
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec

from jobber.errors import InvalidData, UnknownJob

if TYPE_CHECKING:
    import polars as pl

#: Reference data by name, each a mapping of text to text: {"charges": {"Books": "1.50"}}.
Lookups = Mapping[str, Mapping[str, str]]

#: Job types that come with Jobber.
BUILT_IN = ("jobber.jobtypes.load_products", "jobber.jobtypes.fibonacci")


class Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validated arguments of a job; subclass it and decorate with `@job`.

    Fields are given beside `fileName` or `records` in `data`. They are part of what a job is: two attempts see the same.
    """

    #: The rules that a record must meet: a `dataframely.Schema`.
    contract: ClassVar[Any]
    #: The table that the records are loaded into; None when they are computed and kept as results.
    target: ClassVar[str | None] = None
    #: Names of the reference data that `enrich` needs.
    lookups: ClassVar[tuple[str, ...]] = ()
    #: `enrich` looks at each record by itself: small jobs with the same arguments may then be enriched in one call, in which
    #: row numbers are not unique.
    by_row: ClassVar[bool] = False

    def enrich(self, records: "pl.DataFrame", lookups: Lookups) -> "pl.DataFrame":
        """Turn records that met the contract into rows of the target, or into results.

        Pure: no I/O, no clock. `records` has the contract's columns, typed, and `row_no`; the answer has one row for each
        record, in order, with `row_no` kept. Values that the target cannot hold are rejected afterwards.
        """
        return records


@dataclass(frozen=True, slots=True)
class JobType:
    """What may be asked, under its public name."""

    name: str
    aliases: tuple[str, ...]
    #: First line of the class's docstring.
    description: str
    version: str
    args: type[Args]

    @property
    def contract(self) -> Any:
        """The rules that a record must meet: a `dataframely.Schema`."""
        return self.args.contract

    @property
    def target(self) -> str | None:
        """The table that its records are loaded into; None when they are computed."""
        return self.args.target

    @property
    def by_row(self) -> bool:
        """Whether `enrich` looks at each record by itself."""
        return self.args.by_row

    @property
    def lookups(self) -> tuple[str, ...]:
        """Names of the reference data that it needs."""
        return self.args.lookups

    def decode_args(self, raw: bytes) -> Args:
        """Validate the JSON of the arguments.

        Raises InvalidData, naming what is wrong and where.
        """
        try:
            return msgspec.json.decode(raw, type=self.args)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as fault:
            raise InvalidData(f"The arguments of {self.name} are not valid: {fault}") from fault


A = TypeVar("A", bound=type[Args])

_registered: dict[str, JobType] = {}
_by_name: dict[str, JobType] = {}


def job(name: str, *, aliases: Iterable[str] = (), version: str = "1") -> Callable[[A], A]:
    """Register the class as a job type under `name`, which outlives the class's own name.

    Raises ValueError when another class holds one of the names.
    """

    def register(args: A) -> A:
        description = (args.__doc__ or "").strip().splitlines()
        kind = JobType(name, tuple(aliases), description[0] if description else name, version, args)
        for key in (name, *kind.aliases):
            known = _by_name.get(key)
            if known and known.args.__qualname__ != args.__qualname__:
                raise ValueError(f"two job types are called {key}: {known.args} and {args}")
        _registered[name] = kind
        _by_name.update({key: kind for key in (name, *kind.aliases)})
        return args

    return register


def discover(modules: Iterable[str] = ()) -> Mapping[str, JobType]:
    """Import the built-in job types, the `jobber.jobs` entry points and `modules`; answer all job types by canonical name."""
    for module in (*BUILT_IN, *modules):
        importlib.import_module(module)
    for entry in importlib.metadata.entry_points(group="jobber.jobs"):
        entry.load()
    return dict(_registered)


def find(name: str) -> JobType:
    """The job type of that name or alias, among those imported.

    Raises UnknownJob.
    """
    kind = _by_name.get(name)
    if kind is None:
        raise UnknownJob(f"There is no job type {name[:80]!r}. Known are: {', '.join(sorted(_registered))}.")
    return kind
