"""What a failed job says would load its file: options, taken from its sentence, and the command that has them."""

import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

#: As operators/plan writes them (tests/unit/test_cli_load.py holds the two together).
_TEXT = re.compile(r'the option (?P<name>delimiter|quote|encoding|format) "(?P<value>\\t|[^"]+)" would load it')
_MAPPING = re.compile(r"the option mapping (?P<value>\{.*?\}) would load it")
_ENCODING = re.compile(r'the option encoding, "(?P<value>[^"]+)" for example')


def remedy(error: str | None) -> dict[str, Any]:
    """The options that the error names; none when it names none."""
    if found := _TEXT.search(error or ""):
        return {found["name"]: found["value"].replace("\\t", "\t")}
    if found := _ENCODING.search(error or ""):
        return {"encoding": found["value"]}
    if found := _MAPPING.search(error or ""):
        try:
            return {"mapping": json.loads(found["value"])}
        except ValueError:
            return {}
    return {}


def joined(options: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """The options with those of a remedy; mappings are put together."""
    mapping = {**(options.get("mapping") or {}), **(further.get("mapping") or {})}
    return {**options, **further, **({"mapping": mapping} if mapping else {})}


def flags(options: Mapping[str, Any]) -> list[str]:
    """The options as they are given to `jobber load`."""
    given: list[str] = []
    for name, value in options.items():
        if name in ("delimiter", "quote", "encoding", "format", "mode"):
            given += [f"--{name}", "\\t" if value == "\t" else str(value)]
        elif name == "mapping":
            given += [part for column, theirs in value.items() for part in ("--mapping", f"{column}={theirs}")]
        elif name == "keys":
            given += ["--keys", ",".join(value)]
        elif name == "dryRun":
            given += ["--dry-run"] if value else []
        elif name == "maxErrors":
            given += ["--max-errors", str(value)]
        else:
            given += ["--option", f"{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return given


def command(words: Sequence[str]) -> str:
    """A command of ours, to be copied into a shell."""
    return f"{os.environ.get('JOBBER_COMMAND', 'jobber')} {shlex.join(words)}"
