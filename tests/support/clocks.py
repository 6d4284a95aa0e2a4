"""Wall clocks that are wrong: libfaketime (Debian: libfaketime) under single processes. Their monotonic clock is true.

Under it `time.sleep` fails, which our services do without (but for an instant when a child ended): libfaketime 0.9.10 errs
where it is slept by the monotonic clock.
"""

from pathlib import Path


def library() -> Path:
    """The one for programs with threads. Raises AssertionError when it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "clocks that differ need libfaketime: apt-get install libfaketime"
    return found[0]


def wrong(clock: Path) -> dict[str, str]:
    """The environment of a process whose clock is wrong by what the file `clock` says, like `-2h`; it may change meanwhile."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        # Seconds after which it looks at its file again.
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # What it shares would stay behind a SIGKILL.
        "FAKETIME_DISABLE_SHM": "1",
    }


def tell(clock: Path, offset: str) -> None:
    """Set a clock; nobody reads half a time."""
    new = clock.with_name(f"{clock.name}.new")
    new.write_text(f"{offset}\n")
    new.rename(clock)
