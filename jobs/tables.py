"""Tables and durations for the terminal: one style, plain when piped."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table whose first column is text and whose others are figures."""
    # One space between columns, so that the widest of our tables fits 80 columns.
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(header):
        if index == 0:
            # A member's name has no blank to break it at, and is wanted whole.
            made.add_column(name, overflow="fold")
        else:
            made.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
