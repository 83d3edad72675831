"""What students cost, on the command line: python -m students.complexity table2 | NAME...

Counting needs torch, `--help` does not.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from students.catalogue import ARCHITECTURES
from students.cost import Precision
from students.errors import NoPlan
from terminal import parse_options, progress_bar, run_program
from terminal.values import Name

if TYPE_CHECKING:
    from rich.table import Table

    from students.complexity.student import StudentComplexity

PROGRAM = "python -m students.complexity"
TABLE2 = "table2"
_HEADER = ("student", "params", "MACs", "of 30 M", "type", "bytes", "of 128 kB", "RAM")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComplexityOptions:
    """Print what students cost: parameters, MACs, bytes, shares of the DCASE limits.

    The RAM is what the student's C program needs in int8: the peak of its memory plan, which takes
    seconds the first time. Into a pipe go also the peak bytes of torch's activations at the precision.

    Example:
        python -m students.complexity isotropic recursive_2x2 --precision int8
    """

    names: tyro.conf.Positional[tuple[Name, ...]] = ()
    """Students of the catalogue; all of them, without their RAM, if none is named. table2 is Table 2
    of the ASCDomain report, with its misprints."""
    precision: Precision | None = None
    """Precision of parameters and activations; the widest at which a student fits, if not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for an unknown student."""
    options = parse_options(ComplexityOptions, PROGRAM, ComplexityOptions.__doc__ or "", arguments)
    try:
        rows, notes = _measure(options)
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1
    _write(rows, notes)
    return 0


def _measure(options: ComplexityOptions) -> tuple[list["StudentComplexity"], list[str]]:
    """Return a row for each student, and notes below them."""
    from rich.console import Console

    from students.complexity.student import measure_student
    from students.complexity.table2 import find_misprints, measure_table2

    with progress_bar(Console(stderr=True)) as bar:
        # A student whose memory was never planned here takes seconds.
        bar.add_task("plan", total=None)
        if options.names == (TABLE2,):
            rows = measure_table2()
            notes = find_misprints(rows)
        elif options.names:
            rows = [
                measure_student(name, precision=options.precision, with_ram=True)
                for name in options.names
            ]
            notes = []
        else:
            rows = [measure_student(name, precision=options.precision) for name in ARCHITECTURES]
            notes = ["RAM: name the students whose memory is to be planned"]
    unknown = [f"{row.student}: {row.ram}" for row in rows if isinstance(row.ram, NoPlan)]
    return rows, [*unknown, *notes]


def _write(rows: Sequence["StudentComplexity"], notes: Sequence[str]) -> None:
    if not sys.stdout.isatty():
        lines = [
            (*_HEADER, "peak bytes", "arguments"),
            *((*_format_cells(row), *_format_details(row)) for row in rows),
        ]
        sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
        sys.stdout.write("".join(f"# {note}\n" for note in notes))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(draw_table(rows))
    for line in (
        "",
        *(f"{row.student}: {_format_details(row)[1]}" for row in rows),
        "",
        *notes,
    ):
        console.print(line)
    console.print("next: python jobs/students.py --recipes isotropic --no-teacher --dry-run")


def draw_table(rows: Sequence["StudentComplexity"]) -> "Table":
    """Return the figures of students as a table for people."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title in enumerate(_HEADER):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*_format_cells(row))
    return table


def _format_cells(row: "StudentComplexity") -> tuple[str, ...]:
    cost = row.complexity
    return (
        row.student,
        f"{cost.params:,}",
        f"{cost.macs:,}",
        f"{row.macs_percent:.2f} %",
        row.precision,
        f"{row.parameter_bytes:,}",
        f"{row.bytes_percent:.2f} %",
        f"{row.ram:,}" if isinstance(row.ram, int) else "-",
    )


def _format_details(row: "StudentComplexity") -> tuple[str, str]:
    """Return what a table has no room for: peak bytes, and arguments."""
    peak = f"{row.complexity.peak_activation_bytes(row.precision):,}"
    return peak, " ".join(f"{name}={value}" for name, value in row.arguments.items())


if __name__ == "__main__":
    run_program(PROGRAM, main)
