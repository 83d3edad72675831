"""How commands talk to people: help that fits 80 columns, and bars that are off when piped."""

from terminal.bars import progress_bar
from terminal.options import COLUMNS, EXAMPLE, Option, described, examples, one_line, parsed

__all__ = [
    "COLUMNS",
    "EXAMPLE",
    "Option",
    "described",
    "examples",
    "one_line",
    "parsed",
    "progress_bar",
]
