"""Which column of an input fills which column of the contract. Nothing is guessed: what does not fit says what was seen."""

from collections.abc import Mapping, Set
from difflib import get_close_matches

from msgspec import structs

from jobber.contract import Contract
from jobber.errors import StructureFault
from jobber.model import Format, InputOptions, Layout
from operators.frames import CONTROL

#: A table with more columns is none.
MAX_COLUMNS = 10_000
#: What might have been meant instead of the delimiter that was expected.
DELIMITERS = {";": "a semicolon", "\t": "a tab", "|": "a bar", ",": "a comma"}


def fitted(seen: Layout, contract: Contract, options: InputOptions) -> Layout:
    """The layout of an input, of which only `columns` is known, for a contract. Raises StructureFault (HEADER).

    For JSON `columns` are the keys of the first record, as far as they were seen; its layout has none: each record has its own.
    """
    if seen.format in (Format.JSON, Format.NDJSON):
        fields = _keys(contract, options)
        return structs.replace(seen, columns=(), fields=fields, near=_near(seen.columns, fields, contract))
    return structs.replace(seen, fields=match_columns(seen.columns, contract, options))


def _keys(contract: Contract, options: InputOptions) -> dict[str, str]:
    """Contract column -> key. Keys are matched record by record."""
    check_mapping(contract, options)
    taken = set(options.mapping.values())
    return {
        column.name: options.mapping.get(column.name, column.name)
        for column in contract.columns
        if column.name in options.mapping or column.name not in taken
    }


def _near(keys: tuple[str, ...], fields: Mapping[str, str], contract: Contract) -> dict[str, str]:
    """Required column that has no key among these -> the key that may be meant."""
    free = {_folded(key): key for key in reversed(keys) if key not in fields.values()}
    found = {}
    for column in contract.columns:
        if column.required and free and fields.get(column.name, "") not in keys:
            close = get_close_matches(_folded(fields.get(column.name, column.name)), free, 1, 0.7)
            if close:
                found[column.name] = free.pop(close[0])
    return found


def check_names(names: tuple[str, ...]) -> None:
    """Raises StructureFault (HEADER) for too many names, and for names that nobody can see."""
    if len(names) > MAX_COLUMNS:
        raise StructureFault("HEADER", f"The header has {len(names):,} columns; at most {MAX_COLUMNS:,} are read.")
    strange = next((name for name in names if CONTROL.search(name)), None)
    if strange is not None:
        raise StructureFault("HEADER", f"The header's column {strange[:60]!r} holds a control character.")


def check_mapping(contract: Contract, options: InputOptions) -> None:
    """Raises StructureFault (HEADER) when the mapping names a column that the contract does not have."""
    for name in options.mapping:
        if contract.column(name) is None:
            raise StructureFault("HEADER", f"The mapping names {name!r}, which is no column of {contract.name}.")


def match_columns(names: tuple[str, ...], contract: Contract, options: InputOptions) -> dict[str, str]:
    """Contract column -> input column, by `mapping`, else by name in any case. Raises StructureFault (HEADER)."""
    check_mapping(contract, options)
    folded: dict[str, str] = {}
    for name in names:
        if name and _folded(name) in folded:
            raise StructureFault("HEADER", f"The header has the column {name!r} twice.")
        folded[_folded(name)] = name
    # A column that the mapping names is given away, and has its own name no longer.
    taken = {_folded(name) for name in options.mapping.values()}
    found = {}
    for column in contract.columns:
        mapped = options.mapping.get(column.name)
        if mapped is not None:
            if not mapped.strip() or _folded(mapped) not in folded:
                raise StructureFault(
                    "HEADER", f"The mapping names the input column {mapped!r}, which the header does not have. {_seen(names)}"
                )
            found[column.name] = folded[_folded(mapped)]
        elif _folded(column.name) in folded and _folded(column.name) not in taken:
            found[column.name] = folded[_folded(column.name)]
        elif column.required:
            raise StructureFault("HEADER", _missing(column.name, names, folded, taken, options))
    return found


def _folded(name: str) -> str:
    return name.strip().casefold()


def _missing(column: str, names: tuple[str, ...], folded: dict[str, str], taken: Set[str], options: InputOptions) -> str:
    if _folded(column) in folded:
        return f"The mapping gives the input column {folded[_folded(column)]!r} away, so that {column!r} has none."
    text = f"The required column {column!r} is not in the header. {_seen(names)}"
    if len(names) == 1:
        for delimiter, what in DELIMITERS.items():
            if delimiter != options.delimiter and delimiter in names[0]:
                shown = "\\t" if delimiter == "\t" else delimiter
                return f'{text} It looks like {what} parts the columns: the option delimiter "{shown}" would load it.'
    close = get_close_matches(column, folded.keys() - taken, 1, 0.7)
    if close:
        return (
            f'{text} If {folded[close[0]]!r} is meant, the option mapping {{"{column}": "{folded[close[0]]}"}} would load it.'
        )
    return text


def _seen(names: tuple[str, ...]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:20])
    return f"Seen: {shown}{', …' if len(names) > 20 else ''}."
