"""Takes the mechanisms away in every process that has this folder on PYTHONPATH (benchmarks/mechanisms). Never part of a wheel.

Left are the parts without which nothing is loaded: plan, claim, COPY, receipts. Gone are the ledger's row and its locks, the
closed-job check, the digests of plan and read, fault points, the watchdog, the limit of memory, the search for what was lost.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


def _ledger(module: ModuleType) -> None:
    async def write(session: Any, batches: Any) -> Any:
        ((now,),) = await module._rows(session, "SELECT clock_timestamp()", [])
        if any(batch.header.rows for batch in batches):
            await module._copy(session, module.copy_into(module.PRODUCTS), batches)
        made = {
            b.key: module.Receipt(b.key, b.header.rows, 0, 0, b.header.rejected, b.header.rejects, b"", now) for b in batches
        }
        return made, sum(receipt.inserted for receipt in made.values())

    module.__dict__["_write"] = write


class _Equal:
    """A digest that is what it should be."""

    def __ne__(self, other: object) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _steps(module: ModuleType) -> None:
    module.__dict__["digest_of"] = lambda data: _Equal()


def _buffer(module: ModuleType) -> None:
    module.__dict__["digest_of"] = lambda data: bytes(32)


def _dispatch(module: ModuleType) -> None:
    module.__dict__["lost"] = lambda outstanding: []


def _faults(module: ModuleType) -> None:
    module.__dict__["point"] = lambda name: None


def _process(module: ModuleType) -> None:
    module.__dict__["Watchdog"].beat = lambda self: None
    module.__dict__["limit_memory"] = lambda size: None


PATCHES: dict[str, Callable[[ModuleType], None]] = {
    "api.products.ledger": _ledger,
    "pipelines.steps": _steps,
    "operators.plan.buffer": _buffer,
    "api.jobs.dispatch": _dispatch,
    "jobber.faults": _faults,
    "pipelines.process": _process,
}


class _Patching(Loader):
    """Executes a module, then takes its mechanism away."""

    def __init__(self, shipped: Loader, patch: Callable[[ModuleType], None]) -> None:
        self._shipped = shipped
        self._patch = patch

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As shipped."""
        return self._shipped.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As shipped, and then not."""
        self._shipped.exec_module(module)
        self._patch(module)


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The modules of PATCHES, by the usual way."""
        if name not in PATCHES:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader, PATCHES[name])
        return spec


sys.meta_path.insert(0, _Finder())
