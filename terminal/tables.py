"""Tables and durations for the terminal, in one style and plain in a pipe."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def build_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose first column is text and whose other columns are numbers."""
    # One space between columns, so that our widest table fits into 80 columns.
    built = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(header):
        if index == 0:
            # A member's name has no space to break it at, and must be shown completely.
            built.add_column(name, overflow="fold")
        else:
            built.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        built.add_row(*row)
    return built


def format_count(n: int, noun: str) -> str:
    """Return a number with what it counts: 1 run, 2,000 runs."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def format_duration(seconds: float) -> str:
    """Return a duration in the unit that people would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
