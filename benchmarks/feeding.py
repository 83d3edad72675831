"""Compares a teacher's whole training step with its model alone: does the model limit the speed?

B clips in a batch.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
from dataclasses import dataclass

import torch

from benchmarks.results import format_table, publish, ratio, take_turns
from benchmarks.steps import Step, open_feed
from benchmarks.transforms import TRANSFORMS_NOTE, make_transforms
from teachers.recipes import RECIPES

FAMILIES = (
    "passt_dir_fms",
    "mn10_as_dir_fms",
    "mn05_as_dir_fms",
    "mn04_as_dir_fms",
    "dymn10_as_dir_fms",
    "dymn04_as_dir_fms",
    "cpr_128_dir_fms",
)
CPU_BATCH = {"passt": 16, "cpr_128": 256, "mn04_as": 256}
"""Clips in a batch where it is not 32: the recipe's, if memory and a few seconds suffice."""
DEVICE = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherStepSpeed:
    """How fast the training step of one family is, and its parts."""

    model: str
    n_clips: int
    clips_per_s: float
    bare_clips_per_s: float
    whole_over_bare: float
    """Clips/s of the whole step, divided by those of the model alone."""
    transforms_over_bare: float
    """Time of the front-end's plain transforms, as a share of the model's step."""
    rest_over_plain: float
    """Time of everything but the model, divided by that of the plain transforms."""
    rest_over_best: float
    """The same for the transforms of a few clips at a time."""


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=FAMILIES, choices=sorted(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured = []
    for name in options.recipes:
        measured.append(_measure(name, options.rounds))
        print(measured[-1])
    body = f"{_format_speeds(measured)}\n\n{_describe()}"
    publish("feeding.py", "Training step of teachers (cpu)", DEVICE, body)


def _measure(name: str, rounds: int) -> TeacherStepSpeed:
    recipe = RECIPES[name]
    n_clips = CPU_BATCH.get(recipe.model, 32)
    feed = open_feed(recipe, DEVICE)
    step = Step(recipe, feed, n_clips)
    plain, best = make_transforms(recipe.front_end, n_clips, DEVICE)
    sides = {
        "bare": lambda: step.take(step.get_random),
        "whole": lambda: step.take(step.draw_clips),
        "feed": step.draw_clips,
        "plain": plain,
        "best": best,
    }
    seconds = take_turns(sides, rounds=rounds, device=DEVICE)
    return TeacherStepSpeed(
        model=recipe.model,
        n_clips=n_clips,
        clips_per_s=n_clips / statistics.median(seconds["whole"]),
        bare_clips_per_s=n_clips / statistics.median(seconds["bare"]),
        whole_over_bare=ratio(seconds["bare"], seconds["whole"]),
        transforms_over_bare=ratio(seconds["plain"], seconds["bare"]),
        rest_over_plain=ratio(seconds["feed"], seconds["plain"]),
        rest_over_best=ratio(seconds["feed"], seconds["best"]),
    )


def _format_speeds(measured: list[TeacherStepSpeed]) -> str:
    header = [
        "teacher",
        "clips in a batch",
        "whole step, clips/s",
        "model alone, clips/s",
        "whole step, ratio to model alone",
        "plain transforms, share of the model's step",
        "all but the model, ratio to plain transforms",
        "all but the model, ratio to best transforms",
    ]
    rows = [
        [
            figures.model,
            str(figures.n_clips),
            f"{figures.clips_per_s:.1f}",
            f"{figures.bare_clips_per_s:.1f}",
            f"{figures.whole_over_bare:.3f}",
            f"{figures.transforms_over_bare:.3f}",
            f"{figures.rest_over_plain:.2f}",
            f"{figures.rest_over_best:.2f}",
        ]
        for figures in measured
    ]
    return format_table(header, rows)


def _describe() -> str:
    corpus = open_feed(RECIPES["cpr_128_dir_fms"], DEVICE).corpus
    share = float((corpus.column("recording_device") == corpus.reference_device).mean())
    return (
        "A step is forward pass, cross-entropy, backward pass and AdamW in float32. Model "
        "alone: on random inputs. Whole step: on clips of the demo corpus with all random changes "
        f"of the recipe (impulse responses, roll, masks, Freq-MixStyle). {share:.0%} of these "
        "clips are from the reference device and may get an impulse response; of TAU's training "
        f"clips, 73% are. {TRANSFORMS_NOTE}"
    )


if __name__ == "__main__":
    main()
