"""Measures training on a GPU, in less than ten minutes; on a machine without one it says that nobody has.

The section is written after each part, so a program that is stopped leaves the parts before. Soft labels
and selections are in none of them: they have no path on a GPU, and are computed on CPUs everywhere.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.gpu_steps import StepSpeed, measure_compiled, measure_recipe_step
from benchmarks.results import FILE, format_table, publish
from benchmarks.student_steps import StudentStep
from benchmarks.students_on_gpu import measure_at_once, measure_kernels_s, measure_second_epoch
from benchmarks.utilisation import TRAINING_CLIPS, find_peak_flops, project_hours
from students import RECIPES as STUDENTS
from teachers.recipes import RECIPES as TEACHERS

TITLE = "Training on a GPU"
STUDENT = "isotropic"
EPOCHS = 150
"""Of Isotropic, as published."""
GIB = 1024**3
NOT_MEASURED = "Not measured yet"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What is measured, and how much of it."""

    recipes: tuple[str, ...] = (
        STUDENT,
        "passt_dir_fms",
        "mn10_as_dir_fms",
        "mn05_as_dir_fms",
        "mn04_as_dir_fms",
        "dymn10_as_dir_fms",
        "dymn04_as_dir_fms",
        "cpr_128_dir_fms",
    )
    """Whose steps are measured: of each family of teachers, and of a student."""
    compiled: tuple[str, ...] = (STUDENT, "mn10_as_dir_fms", "passt_dir_fms")
    """Whose models torch.compile compiles, which takes up to a minute each."""
    student: str = STUDENT
    """Which learns from a whole corpus, and beside others."""
    n_clips: int | None = None
    """Clips in a batch; None is each recipe's number."""
    rounds: int = 3
    calls: int = 10
    fit_clips: int = TRAINING_CLIPS
    select_clips: int = 20_943
    """Evaluated after every epoch: 15 % of TRAINING_CLIPS."""
    at_once: tuple[int, ...] = (1, 2, 4)
    steps_at_once: int = 200


def main() -> None:
    """Measure and publish, or say that nothing is measured yet."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        say_not_measured()
        return
    torch.set_num_threads(1)
    parts: list[str] = []
    for part in measure_parts(device, Sizes()):
        parts.append(part)
        publish("gpu.py", TITLE, device, "\n\n".join([*parts, describe()]))


def say_not_measured() -> None:
    """Write that nothing is measured yet, unless the section holds figures of a GPU."""
    begin = f"## {TITLE}\n"
    before = FILE.read_text() if FILE.exists() else ""
    if begin in before and f"{begin}\n{NOT_MEASURED}" not in before:
        sys.exit(
            f"{FILE.name} has figures of a GPU, and this machine has none: they stay as they are; "
            "run this program where there is a GPU"
        )
    text = f"{NOT_MEASURED}: run this program on a machine with a GPU. {describe()}"
    publish("gpu.py", TITLE, torch.device("cpu"), text)


def measure_parts(device: torch.device, sizes: Sizes) -> Iterator[str]:
    """Yield the parts of the section one after the other, as Markdown; what takes longest is last."""
    speeds = [
        measure_recipe_step(
            recipe, device, rounds=sizes.rounds, calls=sizes.calls, n_clips=sizes.n_clips
        )
        for recipe in sizes.recipes
    ]
    yield _format_speeds(speeds, device)
    yield from _project_teachers(speeds)
    yield _project_student(device, sizes)
    yield _format_at_once(device, sizes)
    yield _format_compiled(device, sizes)


def describe() -> str:
    """Return what the figures mean."""
    return (
        "A step is forward pass, loss, backward pass and optimiser, in bfloat16 where autocast "
        "allows. Whole step: on clips of the demo corpus with all random changes, losses and soft "
        "labels of the recipe. Model alone: the same model and optimiser with the loss of the true "
        "labels, on random inputs. Arithmetic: three forward passes a step, as a share of the "
        "GPU's dense bfloat16 operations in NVIDIA's data sheet. Memory: what the process holds "
        "after its first step, and what a job would reserve for it after its dry step, which leaves "
        "room for the corpus and for gaps. Compiled: the model alone after torch.compile, which "
        "no job uses. Soft labels and selections are computed on CPUs everywhere: they have no "
        "path on a GPU."
    )


def _format_speeds(speeds: list[StepSpeed], device: torch.device) -> str:
    peak = find_peak_flops(device)
    header = [
        "recipe",
        "clips in a batch",
        "whole step, clips/s",
        "model alone, clips/s",
        "whole step, ratio to model alone",
        "GFLOP per clip",
        "arithmetic" if peak is None else f"arithmetic, share of {peak / 1e12:.0f} TFLOP/s",
        "memory, GiB",
        "the dry step's estimate, GiB",
    ]
    rows = [
        [
            speed.recipe,
            str(speed.n_clips),
            f"{speed.clips_per_s:,.1f}",
            f"{speed.bare_clips_per_s:,.1f}",
            f"{speed.whole_over_bare:.3f}",
            f"{speed.flops_per_clip / 1e9:.2f}",
            "unknown" if peak is None else f"{speed.flops_per_clip * speed.clips_per_s / peak:.1%}",
            "unknown" if speed.memory is None else f"{speed.memory.used / GIB:.1f}",
            "unknown" if speed.memory is None else f"{speed.memory.estimated / GIB:.1f}",
        ]
        for speed in speeds
    ]
    return format_table(header, rows)


def _project_teachers(speeds: list[StepSpeed]) -> Iterator[str]:
    """Yield how long all published teachers take, if a recipe of each model was measured."""
    by_model = {
        TEACHERS[speed.recipe].model: speed.clips_per_s
        for speed in speeds
        if speed.recipe in TEACHERS
    }
    try:
        hours = project_hours(by_model)
    except KeyError:
        return
    yield (
        "Training the 22 published teachers on 5 splits of TAU (110 models, all their epochs) "
        f"takes {hours:.0f} hours on one such GPU, one after the other, without evaluation."
    )


def _project_student(device: torch.device, sizes: Sizes) -> str:
    recipe = STUDENTS[sizes.student]
    epoch = measure_second_epoch(sizes.student, device, sizes.fit_clips, sizes.select_clips)
    learning = EPOCHS * sizes.fit_clips / epoch.clips_per_s / 60
    text = (
        f"{recipe.name}: {EPOCHS} epochs of {sizes.fit_clips:,} clips of synthetic sound take "
        f"{EPOCHS * epoch.took_s / 60:.1f} minutes, projected from the second of two epochs: "
        f"{learning:.1f} minutes of training at {epoch.clips_per_s:,.0f} clips/s, and the rest for "
        f"the evaluation of {sizes.select_clips:,} select clips."
    )
    if device.type != "cuda":
        return text
    step = StudentStep(recipe, sizes.n_clips or recipe.training.batch_size, device)
    busy = measure_kernels_s(step) * epoch.clips_per_s / step.n_clips
    return f"{text} Its kernels run for {busy:.0%} of the time."


def _format_at_once(device: torch.device, sizes: Sizes) -> str:
    totals = {
        n: measure_at_once(sizes.student, device, n, sizes.steps_at_once) for n in sizes.at_once
    }
    rows = [
        [str(n), f"{total:,.0f}", f"{total / totals[sizes.at_once[0]]:.2f}"]
        for n, total in totals.items()
    ]
    header = [f"{sizes.student} at once, one process each", "clips/s of all", "ratio to one"]
    return format_table(header, rows)


def _format_compiled(device: torch.device, sizes: Sizes) -> str:
    ratios = {
        recipe: measure_compiled(
            recipe, device, rounds=sizes.rounds, calls=sizes.calls, n_clips=sizes.n_clips
        )
        for recipe in sizes.compiled
    }
    rows = [[recipe, f"{faster:.2f}"] for recipe, faster in ratios.items()]
    return format_table(["recipe", "model alone: compiled, ratio to as it is"], rows)


if __name__ == "__main__":
    main()
