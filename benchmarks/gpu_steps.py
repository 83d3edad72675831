"""The training step of any recipe on a GPU: how fast, how much of its arithmetic, how much memory.

B clips in a batch.
"""

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.results import ratio, synchronise, take_turns
from benchmarks.steps import Step, open_feed
from benchmarks.student_steps import StudentStep, keep_only_model
from benchmarks.utilisation import FORWARD_PASSES, count_step_flops
from students import RECIPES as STUDENTS
from students.complexity import measure_complexity
from students.dry_step import measure_student_step
from teachers.dry_step import measure_teacher_step
from teachers.recipes import RECIPES as TEACHERS
from training.needs import DryStep

Take = Callable[[], object]
"""Takes one step."""


@dataclass(frozen=True, slots=True)
class RecipeSteps:
    """The steps of one recipe, of a teacher or of a student."""

    n_clips: int
    flops: int
    """Operations of a step of the model: three forward passes; a multiplication and addition are two."""
    whole: Take
    """On clips of the demo corpus, with all that the recipe does to them."""
    bare: Take
    """The same model and optimiser with the loss of the true labels, on random inputs."""
    compile_bare: Callable[[], None]
    """From its call on the model of `bare` is compiled by torch.compile."""


@dataclass(frozen=True, slots=True)
class StepSpeed:
    """How fast the step of a recipe is on a GPU."""

    recipe: str
    n_clips: int
    clips_per_s: float
    """Of whole steps."""
    bare_clips_per_s: float
    whole_over_bare: float
    flops_per_clip: float
    memory: "Memory | None"
    """None on a CPU, where the dry step estimates no memory."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of a GPU that one process takes."""

    used: float
    estimated: float


def measure_recipe_step(
    recipe: str, device: torch.device, *, rounds: int, calls: int, n_clips: int | None = None
) -> StepSpeed:
    """Measure whole and bare steps of a recipe, and what memory they took against the dry step's estimate.

    Args:
        recipe: of a teacher or a student.
        device: nothing else may run on it.
        rounds: measurements of each kind of step.
        calls: steps in a measurement.
        n_clips: of a batch; None is the recipe's.
    """
    estimated = _estimate_bytes(recipe, device)
    _free(device)
    steps = open_steps(recipe, device, n_clips)
    steps.whole()
    synchronise(device)
    used = None if estimated is None else _count_used_bytes(device)
    seconds = take_turns(
        {"whole": steps.whole, "bare": steps.bare}, rounds=rounds, device=device, calls=calls
    )
    return StepSpeed(
        recipe=recipe,
        n_clips=steps.n_clips,
        clips_per_s=steps.n_clips / statistics.median(seconds["whole"]),
        bare_clips_per_s=steps.n_clips / statistics.median(seconds["bare"]),
        whole_over_bare=ratio(seconds["bare"], seconds["whole"]),
        flops_per_clip=steps.flops / steps.n_clips,
        memory=None if estimated is None or used is None else Memory(used, estimated),
    )


def measure_compiled(
    recipe: str, device: torch.device, *, rounds: int, calls: int, n_clips: int | None = None
) -> float:
    """Return how many times as fast a recipe's bare step is when torch.compile has compiled its model."""
    _free(device)
    eager, compiled = (open_steps(recipe, device, n_clips) for _ in range(2))
    compiled.compile_bare()
    seconds = take_turns(
        {"eager": eager.bare, "compiled": compiled.bare}, rounds=rounds, device=device, calls=calls
    )
    return ratio(seconds["eager"], seconds["compiled"])


def open_steps(recipe: str, device: torch.device, n_clips: int | None = None) -> RecipeSteps:
    """Return the steps of a recipe, of a teacher or a student; `n_clips` of None is its own batch."""
    if recipe in STUDENTS:
        return _open_student(recipe, device, n_clips)
    return _open_teacher(recipe, device, n_clips)


def _open_teacher(name: str, device: torch.device, n_clips: int | None) -> RecipeSteps:
    recipe = TEACHERS[name]
    step = Step(recipe, open_feed(recipe, device), n_clips or recipe.training.batch_size)
    return RecipeSteps(
        n_clips=step.n_clips,
        flops=count_step_flops(step),
        whole=lambda: step.take(step.draw_clips),
        bare=lambda: step.take(step.get_random),
        compile_bare=step.model.compile,
    )


def _open_student(name: str, device: torch.device, n_clips: int | None) -> RecipeSteps:
    recipe = STUDENTS[name]
    n_clips = n_clips or recipe.training.batch_size
    step = StudentStep(recipe, n_clips, device)
    model = StudentStep(keep_only_model(recipe), n_clips, device)
    macs = measure_complexity(step.student, step.feed.input_shape).macs

    def compile_bare() -> None:
        # The objective calls this method, not the module.
        student = model.student
        student.features_and_logits = torch.compile(student.features_and_logits)

    return RecipeSteps(
        n_clips=n_clips,
        flops=2 * FORWARD_PASSES * macs * n_clips,
        whole=lambda: step.take(step.draw_clips()),
        bare=lambda: model.take(model.get_random()),
        compile_bare=compile_bare,
    )


def _estimate_bytes(recipe: str, device: torch.device) -> float | None:
    """Return what a job would reserve for the recipe on this GPU; None on a CPU."""
    if device.type != "cuda":
        return None
    _free(device)
    share = _take_dry_step(recipe, device).gpu_share
    return None if share is None else share * torch.cuda.mem_get_info(device)[1]


def _take_dry_step(recipe: str, device: torch.device) -> DryStep:
    scenes = tuple("abcdefghij")
    if recipe in STUDENTS:
        return measure_student_step(STUDENTS[recipe], scenes, 1.0, device)
    return measure_teacher_step(TEACHERS[recipe], scenes, 1.0, device)


def _count_used_bytes(device: torch.device) -> int:
    """Return the memory of the GPU that is in use: this process's context and all that it has reserved."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _free(device: torch.device) -> None:
    """Give back the memory of models that were measured before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
