"""Compares a student's whole training step with its model alone: does the model limit the speed?

B clips in a batch.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.results import format_table, publish, ratio, take_turns
from benchmarks.student_steps import StudentStep, keep_only_model
from benchmarks.transforms import TRANSFORMS_NOTE, make_transforms
from students import RECIPES, StudentRecipe
from training.freed_memory import keep_freed_memory

STUDENTS = ("isotropic", "cp_mobile_2023", "dcase24_baseline", "dsmn_model1")
CPU_BATCH = 64
"""Largest batch, in clips; `benchmarks/gpu.py` takes the recipe's."""
DEVICE = torch.device("cpu")
OURS = "channels last"
FORMATS = {"channels first": torch.contiguous_format, OURS: torch.channels_last}
NOTES = (
    "A whole step is the recipe's, on the demo corpus with all its random changes, in float32, and in "
    "a process that keeps freed memory, as runs do. One thread is timed by processor time, two by the "
    "wall clock. Model alone: the same model and optimiser with the loss of the true labels, on random "
    "inputs and one thread. All but the model: gathering, random changes, front-end and soft labels. "
    f"{TRANSFORMS_NOTE} Both, and what is compared with them, are measured in a process that has not "
    "run a model, and gives freed memory back. The last four columns are for channels last, in which "
    "students are trained."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentStepSpeed:
    """How fast the training step of one student is, and its parts."""

    student: str
    n_clips: int
    clips_per_s: dict[str, float]
    """Clips/s of whole steps, by memory format and threads."""
    whole_over_bare: float
    """Clips/s of the whole step, divided by those of the model alone, channels last."""
    rest_over_plain: float
    """Time of everything but the model, divided by that of the front-end's plain transforms."""
    rest_over_best: float
    """The same for the transforms of a few clips at a time."""
    soft_labels: float | None
    """Their share of the whole step; None for a student without teachers."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--students", nargs="+", default=STUDENTS, choices=sorted(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Measured before any model runs: memory that a model frees makes the plain transforms faster.
    rests = {name: _measure_rest(name, options.rounds) for name in options.students}
    measured = []
    # As in a run.
    with keep_freed_memory():
        for name, rest in rests.items():
            measured.append(_measure(name, rest, options.rounds))
            print(measured[-1])
    torch.set_num_threads(1)
    body = f"{_format_speeds(measured)}\n\n{NOTES}"
    publish("student_step.py", "Training step of students (cpu)", DEVICE, body)


def _measure_rest(name: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of everything in a step but its model, and of the transforms."""
    recipe = RECIPES[name]
    step = StudentStep(recipe, _find_batch_size(recipe), DEVICE)
    plain, best = make_transforms(recipe.front_end, step.n_clips, DEVICE)
    sides: dict[str, Callable[[], object]] = {"fed": step.draw_clips, "plain": plain, "best": best}
    if recipe.distillation is not None:
        sides["soft labels"] = step.learn_from_soft_labels
    return take_turns(sides, rounds=rounds, device=DEVICE)


def _measure(name: str, rest: dict[str, list[float]], rounds: int) -> StudentStepSpeed:
    recipe = RECIPES[name]
    n_clips = _find_batch_size(recipe)
    torch.set_num_threads(1)
    steps = {how: StudentStep(recipe, n_clips, DEVICE, FORMATS[how]) for how in FORMATS}
    model = StudentStep(keep_only_model(recipe), n_clips, DEVICE)
    sides = {how: lambda step=step: step.take(step.draw_clips()) for how, step in steps.items()}
    alone = {"model": lambda: model.take(model.get_random())}
    seconds = take_turns(sides | alone, rounds=rounds, device=DEVICE)
    clips_per_s = {f"{how}, 1 thread": n_clips / statistics.median(seconds[how]) for how in sides}
    torch.set_num_threads(2)
    on_two = take_turns(sides, rounds=rounds, device=DEVICE, by_the_wall=True)
    for how in sides:
        clips_per_s[f"{how}, 2 threads"] = n_clips / statistics.median(on_two[how])
    soft = rest.get("soft labels")
    all_but_model = [fed + (soft[at] if soft else 0.0) for at, fed in enumerate(rest["fed"])]
    return StudentStepSpeed(
        student=name,
        n_clips=n_clips,
        clips_per_s=clips_per_s,
        whole_over_bare=ratio(seconds["model"], seconds[OURS]),
        rest_over_plain=ratio(all_but_model, rest["plain"]),
        rest_over_best=ratio(all_but_model, rest["best"]),
        soft_labels=ratio(soft, seconds[OURS]) if soft else None,
    )


def _find_batch_size(recipe: StudentRecipe) -> int:
    return min(recipe.training.batch_size, CPU_BATCH)


def _format_speeds(measured: list[StudentStepSpeed]) -> str:
    header = [
        "student",
        "clips in a batch",
        *(f"{side}, clips/s" for side in measured[0].clips_per_s),
        "whole step, ratio to model alone",
        "all but the model, ratio to plain transforms",
        "all but the model, ratio to best transforms",
        "soft labels, share of the step",
    ]
    rows = [
        [
            figures.student,
            str(figures.n_clips),
            *(f"{clips_per_s:.0f}" for clips_per_s in figures.clips_per_s.values()),
            f"{figures.whole_over_bare:.3f}",
            f"{figures.rest_over_plain:.2f}",
            f"{figures.rest_over_best:.2f}",
            "none" if figures.soft_labels is None else f"{figures.soft_labels:.2%}",
        ]
        for figures in measured
    ]
    return format_table(header, rows)


if __name__ == "__main__":
    main()
