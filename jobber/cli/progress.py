"""What a person sees of work under way: bars in a terminal, plain lines in a pipe."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

#: Seconds between two lines in a pipe.
LINE_EVERY = 2.0
#: Columns of a pipe, for tables.
PIPE_WIDTH = 120


def console() -> Console:
    """For standard output. In a pipe there are no control codes, and lines are not folded."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, soft_wrap=True, no_color=True, width=PIPE_WIDTH)


def table(*columns: tuple[str, JustifyMethod]) -> Table:
    """A table without lines; its cells are never folded."""
    made = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim")
    made.add_column(width=1)
    for title, justify in columns:
        made.add_column(title, justify=justify, no_wrap=True)
    return made


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= width else text[: width - 1] + "…"


class Bar(Protocol):
    """Shows how far something is."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None:
        """So many of so many are done."""


@contextmanager
def bar(out: Console, title: str, unit: str) -> Iterator[Bar]:
    """A live bar, or a line every two seconds where nobody looks."""
    if not out.is_terminal:
        yield _lines(out, title, unit)
        return
    columns = (
        TextColumn(" "),
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
        _Amount(unit),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=out, transient=False) as progress:
        task = progress.add_task(title, total=None, note="")

        begun = False

        def show(done: int, total: int | None, note: str = "") -> None:
            nonlocal begun
            if not begun:
                # Where it begins took no time now: a speed is made of what follows.
                progress.reset(task, completed=done)
                begun = True
            progress.update(task, completed=done, total=total, note=note)

        yield show


class _Amount(ProgressColumn):
    """`40,000 of 100,000 rows · 71,000/s`."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """One cell."""
        speed = task.finished_speed or task.speed
        return Text(amount(int(task.completed), None if task.total is None else int(task.total), self._unit, speed))


def amount(done: int, total: int | None, unit: str, speed: float | None = None) -> str:
    """In words."""
    if unit == "MB":
        text = f"{done / 1e6:.1f} MB" if total is None else f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"
        return text + (f" · {speed / 1e6:,.0f} MB/s" if speed else "")
    text = f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"
    return text + (f" · {speed:,.0f}/s" if speed else "")


def _lines(out: Console, title: str, unit: str) -> Bar:
    said = time.monotonic()
    last: Any = None

    def show(done: int, total: int | None, note: str = "") -> None:
        nonlocal said, last
        finished = total is not None and done >= total
        if (done, total) != last and (finished or time.monotonic() - said > LINE_EVERY):
            said, last = time.monotonic(), (done, total)
            out.print(f"  {title}: {amount(done, total, unit)}{f' ({note})' if note else ''}")

    return show


def spinner(out: Console, sentence: str) -> AbstractContextManager[object]:
    """Something moves while a step takes its time; a pipe gets the sentence."""
    if out.is_terminal:
        return out.status(f"  {sentence}", spinner="dots")
    out.print(f"  {sentence}")
    return nullcontext()
