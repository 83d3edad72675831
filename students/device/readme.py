"""Writes what was measured into the README of a student's folder: a line for each board."""

from pathlib import Path

from disk import write_whole
from students.device.boards import BOARDS
from students.device.measure import DeviceMeasurements

FILE = "README.md"
_HEADING = "## Measured"
_HEAD = (
    "| processor | flash | static RAM | stack | instructions | front-end | same class | off by |",
    "|---|---:|---:|---:|---:|---:|---:|---:|",
)


def note_measurements(folder: Path, measured: DeviceMeasurements) -> Path | None:
    """Write a board's line, in the place of an older one; return the file.

    Nothing is written for this computer, whose time is another one each time, nor where the README
    has no heading for it.
    """
    file = folder / FILE
    if measured.board == "host" or not file.exists():
        return None
    before, heading, below = file.read_text().partition(f"{_HEADING}\n")
    if not heading:
        return None
    lines = [line for line in below.rstrip().splitlines() if line not in _HEAD]
    name = BOARDS[measured.board].processor
    rows = {line for line in lines if line.startswith("| ") and not line.startswith(f"| {name} |")}
    text = "\n".join(line for line in lines if not line.startswith("| ")).strip()
    table = "\n".join([*_HEAD, *sorted(rows | {_make_row(name, measured)})])
    write_whole(file, f"{before}{heading}\n{text}\n\n{table}\n".encode())
    return file


def _make_row(name: str, measured: DeviceMeasurements) -> str:
    cells = [
        name,
        *map(
            "{:,}".format,
            (
                measured.flash_bytes,
                measured.static_bytes,
                measured.stack_bytes or 0,
                measured.spent,
                measured.front_end_spent,
            ),
        ),
        f"{100 * measured.agreement:.1f} %",
        f"{measured.max_difference:.2g}",
    ]
    return f"| {' | '.join(cells)} |"
