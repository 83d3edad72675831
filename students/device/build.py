"""Builds a student's folder for a board, and reads the sizes of the program."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from students.device.boards import Board
from students.device.options import UnfitDevice

EMULATOR = "qemu-system-arm"
SOURCE = "student.c"
_HERE = Path(__file__).parent
_LINKER_SCRIPT = "cortex_m.ld"
_NEWLIB = "libc.a"


@dataclass(frozen=True, slots=True)
class BuiltProgram:
    """A student's program for a board."""

    file: Path
    flash_bytes: int
    """Code and constants, and what variables begin with."""
    ram_bytes: int
    """Variables, and so the arena; without the stack."""


def check_tools(board: Board) -> None:
    """Make sure that a board's compiler, its library and its emulator are installed.

    Raises:
        UnfitDevice: one is not; names the packages.
    """
    emulated = [] if board.machine is None else [EMULATOR]
    wanted = [board.compiler, *emulated, _name_size(board)]
    missing = [tool for tool in wanted if shutil.which(tool) is None]
    if not missing and board.machine is not None:
        # The compiler names a file that it cannot find as it was asked for it.
        found = _call([board.compiler, f"-print-file-name={_NEWLIB}"]).stdout.strip()
        missing = [f"{_NEWLIB} of newlib"] * (found == _NEWLIB)
    if missing:
        raise UnfitDevice(
            f"{missing[0]} is not installed: on Debian or Ubuntu, "
            f"sudo apt-get install --no-install-recommends {board.packages}"
        )


def build_program(folder: Path, board: Board, into: Path) -> BuiltProgram:
    """Build the student of a folder with the loop over clips.

    Args:
        folder: with student.c, and what belongs to it.
        board: what it is built for; its tools are installed.
        into: folder of the program.

    Raises:
        UnfitDevice: a file of the folder is missing, or the compiler refuses one.
    """
    program = into / "student.elf"
    sources = [folder / SOURCE, _HERE / "loop.c", _HERE / board.source]
    if (folder / "front_end.c").exists():
        sources.append(folder / "front_end.c")
    script = folder / _LINKER_SCRIPT
    if board.machine is not None:
        sources.append(folder / "start.c")
    for file in (*sources, folder / "student.h", script):
        if not file.exists():
            raise UnfitDevice(
                f"{file}: is missing: export the student again: python -m students.export --form c"
            )
    linked = [] if board.machine is None else ["-T", str(script)]
    words = [board.compiler, *board.flags, f"-I{folder}", f"-I{_HERE}", *linked, "-o", str(program)]
    done = _call([*words, *map(str, sources), "-lm"])
    if done.returncode:
        raise UnfitDevice(
            f"{board.compiler} cannot build {folder / SOURCE} for {board.processor}: "
            f"{_find_cause(done.stderr)}: export the student again, or choose a smaller one"
        )
    return BuiltProgram(program, *_read_sizes(program, board))


_CAUSES = ("error: ", "undefined reference", "overflowed by", "will not fit")
_SUMMARY = "collect2:"


def _find_cause(complaint: str) -> str:
    """Return the line in which a compiler or linker says what is wrong, and not only that something is."""
    lines = [line for line in complaint.splitlines() if not line.startswith(_SUMMARY)]
    found = (line for line in lines if any(each in line for each in _CAUSES))
    return next(found, lines[-1] if lines else "it says nothing").strip()


def _name_size(board: Board) -> str:
    """Return the name of the tool beside a board's compiler that counts bytes."""
    return board.compiler.removesuffix("gcc") + "size"


def _read_sizes(program: Path, board: Board) -> tuple[int, int]:
    """Return the bytes of flash and of RAM."""
    _, line = _call([_name_size(board), str(program)], check=True).stdout.splitlines()
    code, variables, zeros = map(int, line.split()[:3])
    # Variables that do not begin at zero are in both.
    return code + variables, variables + zeros


def _call(words: list[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=check)
