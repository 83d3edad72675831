"""What students cost, on the command line: python -m students.complexity table2 | NAME..."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from students.catalogue import ARCHITECTURES
from students.complexity.count import Precision
from students.complexity.figures import Figures, figures
from students.complexity.table2 import slips, table2
from terminal import parsed

PROGRAM = "python -m students.complexity"
TABLE2 = "table2"
HEADER = ("student", "params", "MACs", "of 30 M", "type", "bytes", "of 128 kB", "peak bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Print what students cost: parameters, MACs, bytes, shares of the DCASE limits.

    Peak bytes are those of activations, layer by layer, at the same precision.

    Example:
        python -m students.complexity isotropic recursive_2x2 --precision int8
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Students of the catalogue; none is all of them. table2 is Table 2 of the ASCDomain report and
    what is printed wrong there."""
    precision: Precision | None = None
    """Of parameters and activations; the widest at which a student fits, if not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code is 1 for a student that there is not."""
    options = parsed(Options, PROGRAM, Options.__doc__ or "", arguments)
    is_table2 = options.names == (TABLE2,)
    try:
        rows = table2() if is_table2 else _rows(options.names, options.precision)
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1
    _write(rows, slips(rows) if is_table2 else [])
    return 0


def _rows(names: Sequence[str], precision: Precision | None) -> list[Figures]:
    return [figures(name, precision=precision) for name in names or ARCHITECTURES]


def _write(rows: Sequence[Figures], notes: Sequence[str]) -> None:
    if not sys.stdout.isatty():
        lines = [(*HEADER, "arguments"), *((*_cells(row), _spelt(row.arguments)) for row in rows)]
        sys.stdout.write("".join("\t".join(line) + "\n" for line in lines))
        sys.stdout.write("".join(f"# {note}\n" for note in notes))
        return
    console = Console(highlight=False, markup=False)
    console.print(picture(rows))
    for line in ("", *(f"{row.student}: {_spelt(row.arguments)}" for row in rows), "", *notes):
        console.print(line)
    console.print("next: python jobs/students.py --recipes isotropic --no-teacher --dry-run")


def picture(rows: Sequence[Figures]) -> Table:
    """The figures of students for people."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title in enumerate(HEADER):
        made.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        made.add_row(*_cells(row))
    return made


def _cells(row: Figures) -> tuple[str, ...]:
    cost = row.complexity
    return (
        row.student,
        f"{cost.params:,}",
        f"{cost.macs:,}",
        f"{row.macs_percent:.2f} %",
        row.precision,
        f"{row.parameter_bytes:,}",
        f"{row.bytes_percent:.2f} %",
        f"{cost.peak_activation_bytes(row.precision):,}",
    )


def _spelt(arguments: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in arguments.items())


if __name__ == "__main__":
    sys.exit(main())
