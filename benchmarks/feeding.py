"""Is the training step bound by the model? The whole step beside the model's step alone.

B clips in a batch.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
from dataclasses import dataclass

import torch

from benchmarks.results import markdown, publish, ratio, take_turns
from benchmarks.steps import Step, open_feed
from benchmarks.transforms import transforms
from benchmarks.utilisation import peak_flops, projected_hours, step_flops
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
"""Clips in a batch on a CPU, else 32: of the recipe where a step then takes seconds and fits in
memory."""
GPU_CALLS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What was measured of one family."""

    model: str
    n_clips: int
    clips_per_s: float
    bare_clips_per_s: float
    whole_over_bare: float
    """Clips/s of the whole step over clips/s of the bare one."""
    transforms_over_bare: float
    """Time of the front-end's plain transforms, as a share of the bare step."""
    rest_over_plain: float
    """Time of all that is not the model over that of the plain transforms."""
    rest_over_best: float
    """The same over the transforms of a few clips at a time."""
    flops: int


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--recipes", nargs="+", default=FAMILIES, choices=sorted(RECIPES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(options.device)
    found = []
    for name in options.recipes:
        found.append(_measure(name, device, options.rounds))
        print(found[-1])
    body = "\n\n".join([_table(found), _notes(device), *_of_a_gpu(found, device)])
    publish("feeding.py", f"Whole training step over the model's ({device.type})", device, body)


def _measure(name: str, device: torch.device, rounds: int) -> Figures:
    recipe = RECIPES[name]
    on_gpu = device.type == "cuda"
    n_clips = recipe.training.batch_size if on_gpu else CPU_BATCH.get(recipe.model, 32)
    feed = open_feed(recipe, device)
    step = Step(recipe, feed, n_clips)
    plain, best = transforms(recipe.front_end, n_clips, device)
    sides = {
        "bare": lambda: step.take(step.random),
        "whole": lambda: step.take(step.fed),
        "feed": step.fed,
        "plain": plain,
        "best": best,
    }
    calls = GPU_CALLS if on_gpu else 1
    seconds = take_turns(sides, rounds=rounds, device=device, calls=calls)
    return Figures(
        model=recipe.model,
        n_clips=n_clips,
        clips_per_s=n_clips / statistics.median(seconds["whole"]),
        bare_clips_per_s=n_clips / statistics.median(seconds["bare"]),
        whole_over_bare=ratio(seconds["bare"], seconds["whole"]),
        transforms_over_bare=ratio(seconds["plain"], seconds["bare"]),
        rest_over_plain=ratio(seconds["feed"], seconds["plain"]),
        rest_over_best=ratio(seconds["feed"], seconds["best"]),
        flops=step_flops(step),
    )


def _table(found: list[Figures]) -> str:
    header = [
        "teacher",
        "clips in a batch",
        "whole step, clips/s",
        "model alone, clips/s",
        "whole over model",
        "plain transforms, share of the model's step",
        "all but the model over plain transforms",
        "over best transforms",
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
        for figures in found
    ]
    return markdown(header, rows)


def _notes(device: torch.device) -> str:
    corpus = open_feed(RECIPES["cpr_128_dir_fms"], device).corpus
    share = float((corpus.column("recording_device") == corpus.reference_device).mean())
    precision = "bfloat16 where autocast allows" if device.type == "cuda" else "float32"
    return (
        f"A step is forward, cross-entropy, backward and AdamW in {precision}, on random inputs or "
        "on the demo corpus with all that the recipe changes (impulse responses, roll, masks, "
        f"Freq-MixStyle). {share:.0%} of its clips are of the reference device, those that may get "
        "an impulse response; in TAU's training clips 73% are. Plain transforms: one call of "
        "torch.fft.rfft for all frames of the batch; best: the same a few clips at a time."
    )


def _of_a_gpu(found: list[Figures], device: torch.device) -> list[str]:
    """Utilisation and hours, where there is a GPU to have them."""
    if device.type != "cuda":
        return []
    peak = peak_flops(device)
    if peak is None:
        told = ["No utilisation: this GPU's peak is not in benchmarks/utilisation.py."]
    else:
        rows = [
            [
                figures.model,
                f"{figures.flops / figures.n_clips / 1e9:.1f}",
                f"{figures.flops / figures.n_clips * figures.clips_per_s / peak:.1%}",
            ]
            for figures in found
        ]
        header = ["teacher", "GFLOP a clip", f"of {peak / 1e12:.0f} TFLOP/s, whole step"]
        told = [markdown(header, rows)]
    speeds = {figures.model: figures.clips_per_s for figures in found}
    if len(found) == len(FAMILIES):
        hours = projected_hours(speeds)
        told.append(
            f"The 22 published teachers on 5 splits of TAU, 110 models, with all their epochs: "
            f"{hours:.0f} hours on one such GPU, one after the other, without evaluation."
        )
    return told


if __name__ == "__main__":
    main()
