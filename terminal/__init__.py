"""How commands talk to people: options with help in 80 columns, tables and progress bars."""

from terminal.console import progress_bar
from terminal.failures import describe_error, discard_output, run_program
from terminal.options import (
    COLUMNS,
    EXAMPLE_HEADING,
    Option,
    describe_options,
    find_examples,
    parse_command,
    parse_options,
)

__all__ = [
    "COLUMNS",
    "EXAMPLE_HEADING",
    "Option",
    "describe_error",
    "describe_options",
    "discard_output",
    "find_examples",
    "parse_command",
    "parse_options",
    "progress_bar",
    "run_program",
]
