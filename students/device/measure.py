"""What a student costs on a board, and whether it says there what its reference says.

Dimensions: N clips, K classes.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metrics import main_score, measure_agreement
from students.device.boards import BOARDS
from students.device.build import SOURCE, build_program, check_tools
from students.device.chips import Chip, find_fitting
from students.device.options import BoardName, DeviceOptions, UnfitDevice
from students.device.reference import DeviceClips, load_clips, load_reference
from students.device.run import ClipResults, run_clips

OnDone = Callable[[str, int, int], None]
"""Called with what is being done, the number of clips that are done, and of all clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceMeasurements:
    """What a student is worth on a board."""

    board: BoardName
    has_several_labels: bool
    """Whether clips may have several labels, or none: then mAP stands in the place of macro accuracy."""
    flash_bytes: int
    """Code and constants of a program with nothing but the student and a loop over clips."""
    static_bytes: int
    """Its variables: the arena, nearly all."""
    stack_bytes: int | None
    """Most of its stack; None on this computer, which cannot tell."""
    front_end_spent: int
    """Of the worst clip: instructions of the front-end (nanoseconds on this computer); 0 without."""
    spent: int
    """The same of front-end and student together."""
    compared_clips: int
    max_difference: float
    """Largest difference of a logit from ONNX Runtime's, on all clips."""
    agreement: float
    """Share of the clips that both assign to the same class, 0...1; of several labels, of decisions."""
    judged_clips: int
    """Number of clips of the fold select among them."""
    accuracy: float
    """Macro accuracy on them, 0...1."""
    reference_accuracy: float
    """The same of ONNX Runtime."""

    def describe(self, mhz: int | None = None) -> str:
        """Return the measurements in lines for people; for a usual clock of the board if none is given."""
        lines = [*self._describe_cost(mhz or BOARDS[self.board].mhz), *self._describe_parity()]
        return "".join(f"{line}\n" for line in lines)

    def _describe_cost(self, mhz: int) -> list[str]:
        if self.board == "host":
            took = f"{self.spent / 1e6:,.4g} ms"
            return [f"the slowest clip took {took} here; sizes and instructions: --board m7"]
        took = f"{self.spent / (1e3 * mhz):,.4g} ms"
        chips = ", ".join(chip.name for chip in self._find_chips()) or "none of docs/device.md"
        parts = f", of which the front-end {self.front_end_spent:,}" * (self.front_end_spent > 0)
        return [
            f"flash: {self.flash_bytes:,} bytes of code and constants",
            f"RAM: {self.static_bytes:,} bytes static, {self.stack_bytes:,} of stack",
            f"instructions of the worst clip: {self.spent:,}{parts}",
            f"at {mhz} MHz: {took} a clip if each takes one cycle; waits for memory come on top",
            f"fits: {chips}",
        ]

    def _describe_parity(self) -> list[str]:
        agreed, off = 100 * self.agreement, self.max_difference
        here, there = 100 * self.accuracy, 100 * self.reference_accuracy
        compared = f"compared with ONNX Runtime on {self.compared_clips:,} clips"
        alike, score = "in the same class", "macro accuracy"
        if self.has_several_labels:
            alike, score = "of the classes of clips decided alike", "mAP"
        judged = f"{score} on the {self.judged_clips:,} select clips"
        return [
            f"{compared}: {agreed:.1f} % {alike}, largest difference of a logit {off:.2g}",
            f"{judged}: {here:.1f} %, in ONNX Runtime {there:.1f} %",
        ]

    def _find_chips(self) -> Iterator[Chip]:
        ram_bytes = self.static_bytes + (self.stack_bytes or 0)
        return find_fitting(self.board, self.flash_bytes, ram_bytes)


def measure_device(
    options: DeviceOptions, on_done: OnDone = lambda doing, done, total: None
) -> DeviceMeasurements:
    """Build the student of a folder, run it on clips, and compare it; nothing is written.

    Args:
        options: what to run, and on what.
        on_done: called while clips are heard by the reference, and run.

    Raises:
        UnfitDevice: tools or files are missing, or the program cannot be built or run.
        UnfitModel: the folder's reference is no exported student.
        CorpusError, BrokenAudio: the corpus cannot be read.
    """
    board, folder = BOARDS[options.board], options.student.parent.absolute()
    if options.student.name != SOURCE:
        raise UnfitDevice(f"{options.student}: expected the {SOURCE} of an exported folder")
    check_tools(board)
    reference = load_reference(folder)
    with tempfile.TemporaryDirectory() as made:
        program = build_program(folder, board, Path(made))
        clips = load_clips(
            options, reference, lambda done, total: on_done("reference", done, total)
        )
        results = run_clips(
            program,
            board,
            clips.inputs,
            len(reference.student.classes),
            Path(made),
            lambda done, total: on_done(options.board, done, total),
        )
    judged, difference_N, agreement = _compare(clips, results)
    return DeviceMeasurements(
        board=options.board,
        has_several_labels=reference.student.has_several_labels,
        flash_bytes=program.flash_bytes,
        static_bytes=program.ram_bytes,
        stack_bytes=results.stack_bytes,
        front_end_spent=int(results.front_end_N.max()),
        spent=int(results.total_N.max()),
        compared_clips=len(clips.inputs),
        max_difference=float(difference_N.max()),
        agreement=agreement,
        judged_clips=judged,
        accuracy=main_score(results.logits_NK[:judged], clips.select_truth_J),
        reference_accuracy=main_score(clips.reference_NK[:judged], clips.select_truth_J),
    )


def _compare(clips: DeviceClips, results: ClipResults) -> tuple[int, np.ndarray, float]:
    """Return the number of judged clips, the largest difference of each clip, and the agreement."""
    differences_N = np.abs(results.logits_NK - clips.reference_NK).max(axis=1)
    several = clips.select_truth_J.ndim == 2
    agreement = measure_agreement(results.logits_NK, clips.reference_NK, several=several)
    return len(clips.select_truth_J), differences_N, agreement
