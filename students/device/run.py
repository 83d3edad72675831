"""Runs a built program on clips, in several processes, and reads what it says of each.

Dimensions: N clips, K classes.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from students.device.boards import Board
from students.device.build import EMULATOR, BuiltProgram
from students.device.options import UnfitDevice

SILENT_S = 120.0
"""A program that has finished no clip for so long is stuck; the slowest clip takes seconds."""
_LOOK_EVERY_S = 0.1
_SAID = "said.txt"
OnRun = Callable[[int, int], None]
"""Called with the number of clips that have run, and of all clips."""


@dataclass(frozen=True, eq=False, slots=True)
class ClipResults:
    """What the program says of each clip."""

    logits_NK: np.ndarray
    """Float32."""
    front_end_N: np.ndarray
    """Instructions of the front-end, 0 without one; on this computer, nanoseconds."""
    student_N: np.ndarray
    """The same of the student behind it."""
    stack_bytes: int | None
    """Most bytes of stack below the program's own; None where it cannot be told."""

    @property
    def total_N(self) -> np.ndarray:
        """Front-end and student together."""
        return self.front_end_N + self.student_N


def run_clips(
    program: BuiltProgram,
    board: Board,
    clips: Sequence[bytes],
    n_classes: int,
    into: Path,
    on_run: OnRun = lambda done, total: None,
) -> ClipResults:
    """Run all clips, in as many processes as this one has cores.

    Args:
        program: the program.
        board: what it was built for.
        clips: what the program takes: samples or log-mels, at least one clip.
        n_classes: number of logits.
        into: folder for the files of the processes.
        on_run: called while clips run.

    Raises:
        UnfitDevice: the program ends too early, or does not go on.
    """
    record = np.dtype([("logits", "<f4", n_classes), ("spent", "<u8", 3)])
    n_parts = min(os.cpu_count() or 1, len(clips))
    shares = [range(part, len(clips), n_parts) for part in range(n_parts)]
    folders = [into / f"part{part}" for part in range(n_parts)]
    for folder, share in zip(folders, shares, strict=True):
        folder.mkdir()
        (folder / "clips.bin").write_bytes(b"".join(clips[index] for index in share))
        (folder / "results.bin").touch()
    _run_in_folders(_make_command(program, board), folders, record.itemsize, len(clips), on_run)
    results_N = np.empty(len(clips), record)
    for folder, share in zip(folders, shares, strict=True):
        results_N[share.start :: share.step] = np.fromfile(folder / "results.bin", record)
    spent_N3 = results_N["spent"].astype(np.int64)
    stack_bytes = int(spent_N3[:, 2].max()) or None
    return ClipResults(results_N["logits"], spent_N3[:, 0], spent_N3[:, 1], stack_bytes)


def _make_command(program: BuiltProgram, board: Board) -> list[str]:
    if board.machine is None:
        return [str(program.file)]
    return [
        *(EMULATOR, "-M", board.machine, "-nographic", "-monitor", "none", "-serial", "none"),
        # Each instruction takes one nanosecond of the board's time, so that its timer counts them.
        *("-icount", "shift=0", "-semihosting-config", "enable=on,target=native"),
        *("-kernel", str(program.file)),
    ]


def _run_in_folders(
    command: list[str], folders: Sequence[Path], record_bytes: int, n_clips: int, on_run: OnRun
) -> None:
    running = [_start(command, folder) for folder in folders]
    try:
        done, changed = 0, time.monotonic()
        while done < n_clips:
            ended = all(process.poll() is not None for process in running)
            before, done = done, _count_results(folders, record_bytes)
            if done > before:
                changed = time.monotonic()
                on_run(done, n_clips)
            elif ended:
                raise UnfitDevice(_describe_end(running, folders, done, n_clips))
            elif time.monotonic() - changed > SILENT_S:
                raise UnfitDevice(f"stuck behind {done} of {n_clips} clips for {SILENT_S:.0f} s")
            if not ended:
                time.sleep(_LOOK_EVERY_S)
        for process in running:
            process.wait(SILENT_S)
    finally:
        for process in running:
            process.kill()
            process.wait()


def _start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / _SAID).open("wb") as said:
        return subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT
        )


def _count_results(folders: Sequence[Path], record_bytes: int) -> int:
    return sum((folder / "results.bin").stat().st_size // record_bytes for folder in folders)


def _describe_end(
    ended: Sequence[subprocess.Popen[bytes]], folders: Sequence[Path], done: int, n_clips: int
) -> str:
    codes = ", ".join(str(process.returncode) for process in ended)
    said = " ".join((folder / _SAID).read_text(errors="replace") for folder in folders).split()
    what = f": {' '.join(said)}" if said else ""
    return f"the program ended after {done} of {n_clips} clips, with exit code {codes}{what}"
