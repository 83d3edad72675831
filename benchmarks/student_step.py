"""Is a student's training step bound by its model? The whole step beside the model's alone.

B clips in a batch.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.results import markdown, publish, ratio, take_turns
from benchmarks.student_steps import StudentStep, bare
from benchmarks.students_on_gpu import of_a_gpu
from benchmarks.transforms import transforms
from students import RECIPES, StudentRecipe

STUDENTS = ("isotropic", "cp_mobile_2023", "dcase24_baseline", "dsmn_model1")
CPU_BATCH = 64
"""Clips in a batch on a CPU at most; on a GPU as many as the recipe says."""
GPU_CALLS = 20
OURS = "channels last"
FORMATS = {"channels first": torch.contiguous_format, OURS: torch.channels_last}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What was measured of one student."""

    student: str
    n_clips: int
    clips_per_s: dict[str, float]
    """Of whole steps, by memory format and threads."""
    whole_over_bare: float
    """Clips/s of the whole step over clips/s of the model's alone, channels last."""
    rest_over_plain: float
    """Time of all that is not the model over that of the front-end's plain transforms."""
    rest_over_best: float
    """The same over the transforms of a few clips at a time."""
    soft_labels: float | None
    """Their share of the whole step; None for a student alone."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--students", nargs="+", default=STUDENTS, choices=sorted(RECIPES))
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.set_num_threads(1)
    # Before any model has run: memory that a model frees makes the plain transforms cheap.
    rests = {name: _measure_rest(name, device, options.rounds) for name in options.students}
    found = []
    for name, rest in rests.items():
        found.append(_measure(name, rest, device, options.rounds))
        print(found[-1])
    torch.set_num_threads(1)
    parts = [_table(found), _notes(device)]
    if device.type == "cuda":
        parts += of_a_gpu(device)
    publish(
        "student_step.py", f"Training step of students ({device.type})", device, "\n\n".join(parts)
    )


def _measure_rest(name: str, device: torch.device, rounds: int) -> dict[str, list[float]]:
    """Seconds of what a step does besides its model, and of the transforms beside it."""
    recipe = RECIPES[name]
    step = StudentStep(recipe, _batch_size(recipe, device), device)
    plain, best = transforms(recipe.front_end, step.n_clips, device)
    sides: dict[str, Callable[[], object]] = {"fed": step.fed, "plain": plain, "best": best}
    if recipe.distillation is not None:
        sides["soft labels"] = step.listen
    return take_turns(sides, rounds=rounds, device=device, calls=_calls(device))


def _measure(name: str, rest: dict[str, list[float]], device: torch.device, rounds: int) -> Figures:
    recipe = RECIPES[name]
    n_clips = _batch_size(recipe, device)
    torch.set_num_threads(1)
    steps = {how: StudentStep(recipe, n_clips, device, FORMATS[how]) for how in FORMATS}
    model = StudentStep(bare(recipe), n_clips, device)
    sides = {how: lambda step=step: step.take(step.fed()) for how, step in steps.items()}
    alone = {"model": lambda: model.take(model.random())}
    seconds = take_turns(sides | alone, rounds=rounds, device=device, calls=_calls(device))
    clips_per_s = {f"{how}, 1 thread": n_clips / statistics.median(seconds[how]) for how in sides}
    if device.type == "cpu":
        torch.set_num_threads(2)
        on_two = take_turns(sides, rounds=rounds, device=device, by_the_wall=True)
        for how in sides:
            clips_per_s[f"{how}, 2 threads"] = n_clips / statistics.median(on_two[how])
    soft = rest.get("soft labels")
    all_but_model = [fed + (soft[at] if soft else 0.0) for at, fed in enumerate(rest["fed"])]
    return Figures(
        student=name,
        n_clips=n_clips,
        clips_per_s=clips_per_s,
        whole_over_bare=ratio(seconds["model"], seconds[OURS]),
        rest_over_plain=ratio(all_but_model, rest["plain"]),
        rest_over_best=ratio(all_but_model, rest["best"]),
        soft_labels=ratio(soft, seconds[OURS]) if soft else None,
    )


def _batch_size(recipe: StudentRecipe, device: torch.device) -> int:
    n_clips = recipe.training.batch_size
    return n_clips if device.type == "cuda" else min(n_clips, CPU_BATCH)


def _calls(device: torch.device) -> int:
    return GPU_CALLS if device.type == "cuda" else 1


def _table(found: list[Figures]) -> str:
    header = [
        "student",
        "clips in a batch",
        *(f"{side}, clips/s" for side in found[0].clips_per_s),
        "whole over model",
        "all but the model over plain transforms",
        "over best transforms",
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
            "alone" if figures.soft_labels is None else f"{figures.soft_labels:.2%}",
        ]
        for figures in found
    ]
    return markdown(header, rows)


def _notes(device: torch.device) -> str:
    if device.type == "cuda":
        how = "bfloat16 where autocast allows"
    else:
        how = "float32; one thread by processor time, two by the wall clock"
    return (
        f"A whole step is the recipe's, on the demo corpus with all that it changes, {how}. The "
        "model's alone: the same model, loss of true labels and optimiser on random inputs, on one "
        "thread. All but the model: gathering, random changes, front-end and soft labels. Plain "
        "transforms: one call of torch.fft.rfft for all frames of the batch; best: the same a few "
        "clips at a time; both, and what is compared with them, in a process that has not run a "
        "model. The last four columns are of channels last, in which students learn."
    )


if __name__ == "__main__":
    main()
