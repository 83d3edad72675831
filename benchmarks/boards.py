"""Measures students in C on an emulated Cortex-M7, and writes what fits which chip into docs/device.md.

The students are untrained: costs depend on shapes alone, which training does not change. Their norms and
ranges have seen clips of the demo.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from audio.corpora import demo
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.views import Augmentation
from benchmarks.results import format_table
from disk import write_whole
from students import RECIPES, build
from students.c.program import StudentFacts, make_program
from students.device.chips import CHIPS, find_fitting
from students.device.measure import DeviceMeasurements, measure_device
from students.device.options import BoardName, DeviceOptions
from students.export import onnx_file
from students.export.onnx_int8 import convert_to_integers
from students.quantise import calibrate, quantise, remove_rounding

PAGE = Path(__file__).resolve().parent.parent / "docs" / "device.md"
STUDENTS = (
    "tiny_isotropic",
    "isotropic",
    "isotropic_v3",
    "recursive_2x2",
    "bcbl24",
    "dcase24_baseline",
    "cp_mobile_2023",
    "dsmn_model1",
    "tf_sepnet_40",
    "tf_sepnet",
)
"""Recipes; the demo's student, and one of each kind that was published."""
COSTS = ("student", "flash", "RAM", "stack", "instructions", "of the front-end")
ROOMS = ("chip", "for example on", "core", "MHz", "flash, KiB", "RAM, KiB", "students that fit")
_SPLIT = 25


@dataclass(frozen=True, slots=True)
class BoardCosts:
    """A line of the page: what a student takes, with its front-end, on a Cortex-M7."""

    student: str
    flash_bytes: int
    static_bytes: int
    stack_bytes: int
    instructions: int
    front_end_instructions: int

    @classmethod
    def of(cls, student: str, measured: DeviceMeasurements) -> "BoardCosts":
        """Take a student's line from its measurements."""
        return cls(
            student,
            measured.flash_bytes,
            measured.static_bytes,
            measured.stack_bytes or 0,
            measured.spent,
            measured.front_end_spent,
        )

    @classmethod
    def parse(cls, line: str) -> "BoardCosts":
        """Read a line of the page."""
        name, *numbers = (cell.strip() for cell in line.strip("| \n").split("|"))
        return cls(name.strip("`"), *(int(number.replace(",", "")) for number in numbers))

    @property
    def cells(self) -> list[str]:
        """The cells of the line."""
        name, *numbers = (getattr(self, field) for field in self.__slots__)
        return [f"`{name}`", *(f"{number:,}" for number in numbers)]


def main() -> None:
    """Measure and write the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    costs = []
    with tempfile.TemporaryDirectory() as made:
        for name in STUDENTS:
            folder = write_untrained(name, Path(made) / name, has_front_end=True)
            costs.append(BoardCosts.of(name, measure_folder(folder, "m7", clips=2)))
            print(*costs[-1].cells)
    text = replace_table(PAGE.read_text(), COSTS, [each.cells for each in costs])
    write_whole(PAGE, replace_table(text, ROOMS, make_rooms(costs)).encode())


def measure_folder(folder: Path, board: BoardName, *, clips: int) -> DeviceMeasurements:
    """Run a folder's student on so many clips of each fold of the demo."""
    return measure_device(DeviceOptions(student=folder / "student.c", board=board, clips=clips))


def make_rooms(costs: Sequence[BoardCosts]) -> list[list[str]]:
    """Return the cells of each chip's line, with the students that fit it."""
    return [
        [
            chip.name,
            chip.board,
            f"M{chip.core[1:]}",
            str(chip.mhz),
            f"{chip.flash_kib:,}",
            str(chip.largest_kib)
            if chip.largest_kib == chip.ram_kib
            else f"{chip.largest_kib} ({chip.ram_kib:,})",
            _name_fitting(chip.name, costs),
        ]
        for chip in CHIPS
    ]


def _name_fitting(chip: str, costs: Sequence[BoardCosts]) -> str:
    core = next(each.core for each in CHIPS if each.name == chip)
    fitting = [
        cost.student
        for cost in costs
        if chip
        in [
            each.name
            for each in find_fitting(core, cost.flash_bytes, cost.static_bytes + cost.stack_bytes)
        ]
    ]
    left_out = [cost.student for cost in costs if cost.student not in fitting]
    if len(fitting) > len(left_out):
        return "all" + (f" but {', '.join(left_out)}" if left_out else "")
    return ", ".join(fitting) or "none"


def replace_table(page: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a page with other rows in the table that has this header."""
    head = f"| {' | '.join(header)} |\n"
    before, found, behind = page.partition(head)
    if not found:
        raise ValueError(f"{PAGE}: no table with the header {head}")
    lines = behind.splitlines(keepends=True)
    n_rows = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return f"{before}{format_table(header, rows)}\n{''.join(lines[n_rows:])}"


def read_table(page: str, header: Sequence[str]) -> list[str]:
    """Return the rows of the table that has this header."""
    _, _, behind = page.partition(f"| {' | '.join(header)} |\n")
    rows, _, _ = behind.partition("\n\n")
    return rows.splitlines()[1:]


def write_untrained(name: str, folder: Path, *, has_front_end: bool) -> Path:
    """Write the folder of a recipe's student with fresh weights, as an export would; return it."""
    front_end = RECIPES[name].front_end
    corpus = demo.read()
    n_samples = round(corpus.clip_duration_s * front_end.sample_rate)
    facts = StudentFacts(
        member=name,
        classes=corpus.scenes,
        sample_rate=front_end.sample_rate,
        clip_samples=n_samples,
    )
    model = _make_int8_model(name)
    program = make_program(model, facts, front_end if has_front_end else None)
    folder.mkdir(parents=True)
    for file, text in program.files.items():
        (folder / file).write_text(text)
    if has_front_end:
        model = onnx_file.prepend_front_end(model, _convert_front_end(front_end, n_samples))
    metadata = asdict(facts) | {
        "corpus": corpus.name,
        "split": _SPLIT,
        "front_end": asdict(front_end),
        "takes_waveforms": has_front_end,
    }
    (folder / "student.onnx").write_bytes(onnx_file.serialise(model, metadata))
    return folder


@functools.cache
def _make_int8_model(name: str) -> onnx.ModelProto:
    torch.manual_seed(0)
    recipe, corpus = RECIPES[name], demo.read()
    feed = Feed.open(corpus, recipe.front_end, Augmentation(), None, torch.device("cpu"))
    clips_BCFT = torch.cat(list(feed.iterate_batches(corpus.rows(_SPLIT, "fit")[::4])))
    network = build(recipe.model, n_classes=len(corpus.scenes), **recipe.arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches: one settles it
    with torch.no_grad():
        network(clips_BCFT)
    simulated = quantise(network.eval(), feed.input_shape)
    calibrate(simulated, [clips_BCFT])
    in_float32 = onnx_file.convert_student(remove_rounding(simulated), feed.input_shape)
    return convert_to_integers(in_float32, simulated)


@functools.cache
def _convert_front_end(front_end: FrontEnd, n_samples: int) -> onnx.ModelProto:
    return onnx_file.convert_front_end(front_end, n_samples)


if __name__ == "__main__":
    main()
