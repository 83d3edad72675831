"""A student in C on a board: python -m students.device FOLDER/student.c --board m7.

Only the options are imported at once: a run needs ONNX Runtime and the corpus, `--help` does not.
"""

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from students.device.options import DeviceOptions, UnfitDevice
from terminal import describe_error, parse_options, run_program

if TYPE_CHECKING:
    from students.device.measure import DeviceMeasurements

PROGRAM = "python -m students.device"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 1 for a student that cannot be built or run."""
    options = parse_options(DeviceOptions, PROGRAM, DeviceOptions.__doc__ or "", arguments)
    return _run(options)


def _run(options: DeviceOptions) -> int:
    from audio.errors import BrokenAudio, CorpusError
    from disk import equip_user
    from students.device.boards import BOARDS
    from students.device.readme import note_measurements
    from students.runtime import UnfitModel

    equip_user()
    try:
        measured = _measure_with_bar(options)
        noted = note_measurements(options.student.parent, measured)
    except (UnfitDevice, UnfitModel, CorpusError, BrokenAudio, OSError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"{PROGRAM}: {' '.join(describe_error(error).split())}\n")
        return 1
    sys.stdout.write(f"{options.student} on {BOARDS[options.board].processor}\n")
    sys.stdout.write(measured.describe(options.mhz))
    if noted is not None:
        sys.stdout.write(f"written into {noted}\n")
    if options.board != "host":
        words = ["make", "-C", str(options.student.parent), "student.elf", f"CORE={options.board}"]
        sys.stdout.write(f"next: {shlex.join(words)}\n")
    return 0


def _measure_with_bar(options: DeviceOptions) -> "DeviceMeasurements":
    from rich.console import Console

    from students.device.measure import measure_device
    from terminal import progress_bar

    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task("build", total=None)

        def show(doing: str, done: int, total: int) -> None:
            bar.update(task, description=doing, completed=done, total=total)

        return measure_device(options, show)


if __name__ == "__main__":
    run_program(PROGRAM, main)
