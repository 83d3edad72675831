"""Measures how often intervals of a gain contain the true gain, on simulated recordings and seeds.

A seeds, G recordings, N clips, K classes, R resamples.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm

from benchmarks.results import format_table, publish
from metrics import paired_bootstrap

CLASSES, CLIPS_EACH, RESAMPLES = 10, 3, 500
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    """What makes two systems differ: standard deviations of effects on the scale of a probit."""

    name: str
    recordings: float
    """Of how much harder a recording is for one system than for the other, on all seeds."""
    seeds: float
    """Of how much better a seed is on all recordings."""
    both: float
    """Of how much better a seed is on just one recording."""


WORLDS = (
    World("no seed effects", 0.5, 0.0, 0.3),
    World("seeds differ by 2.5 points", 0.5, 0.1, 0.5),
    World("seeds differ by 8 points", 0.3, 0.3, 0.3),
    World("seeds differ on single recordings", 0.0, 0.02, 1.0),
)


def simulate(
    world: World, n_recordings: int, n_seeds: int, generator: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64], float]:
    """Return two systems' logits [A, N, K], labels and recordings [N], and the true gain.

    A clip is right if a sum of normal effects is above 0, so the true accuracy of a system is the
    probability of that.
    """
    label_G = np.arange(n_recordings) % CLASSES
    recording_N = np.repeat(np.arange(n_recordings), CLIPS_EACH)
    shared_G = generator.standard_normal(n_recordings)
    logits, accuracies = [], []
    for skill in (0.3, 0.5):
        effects_AG = (
            skill
            + shared_G
            + world.recordings * generator.standard_normal(n_recordings)
            + world.seeds * generator.standard_normal((n_seeds, 1))
            + world.both * generator.standard_normal((n_seeds, n_recordings))
        )
        noise_AN = generator.standard_normal((n_seeds, len(recording_N)))
        right_AN = effects_AG[:, recording_N] + noise_AN > 0
        answer_AN = np.where(right_AN, label_G[recording_N], (label_G[recording_N] + 1) % CLASSES)
        logits.append(np.eye(CLASSES)[answer_AN])
        deviation = np.sqrt(2 + world.recordings**2 + world.seeds**2 + world.both**2)
        accuracies.append(float(norm.cdf(skill / deviation)))
    first_ANK, second_ANK = logits
    gain = accuracies[1] - accuracies[0]
    return first_ANK, second_ANK, label_G[recording_N], recording_N, gain


def list_ends(
    world: World, n_recordings: int, n_seeds: int, seed: int
) -> tuple[float, dict[str, tuple[float, float]]]:
    """Return the true gain of one simulated comparison, and its interval by each method."""
    generator = np.random.default_rng(seed)
    first, second, labels_N, recordings_N, gain = simulate(world, n_recordings, n_seeds, generator)
    arguments = {"n_resamples": RESAMPLES, "seed": seed}
    ours = paired_bootstrap(first, second, labels_N, recordings_N, **arguments).difference
    alone = paired_bootstrap(
        np.concatenate(first),
        np.concatenate(second),
        np.tile(labels_N, n_seeds),
        np.tile(recordings_N, n_seeds),
        **arguments,
    ).difference
    return gain, {
        "recordings and seeds": (ours.low, ours.high),
        "recordings alone": (alone.low, alone.high),
        "pigeonhole": _draw_both(first, second, labels_N, recordings_N, generator),
    }


def _draw_both(
    first_ANK: Floats,
    second_ANK: Floats,
    labels_N: NDArray[np.int64],
    recordings_N: NDArray[np.int64],
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Draw recordings and seeds, both with replacement (Owen 2007); return the percentiles."""
    hits = [logits_ANK.argmax(axis=2) == labels_N for logits_ANK in (first_ANK, second_ANK)]
    gain_AN = hits[1].astype(float) - hits[0]
    n_seeds, n_recordings = len(gain_AN), int(recordings_N.max()) + 1
    gain_AG = gain_AN.reshape(n_seeds, n_recordings, CLIPS_EACH).sum(axis=2)
    # [G, K]: each recording is of one class.
    classes_GK = np.eye(CLASSES)[labels_N[::CLIPS_EACH]]
    even_G, even_A = np.full(n_recordings, 1 / n_recordings), np.full(n_seeds, 1 / n_seeds)
    weights_RG = generator.multinomial(n_recordings, even_G, size=RESAMPLES)
    weights_RA = generator.multinomial(n_seeds, even_A, size=RESAMPLES) / n_seeds
    above_RK = (weights_RG * (weights_RA @ gain_AG)) @ classes_GK
    below_RK = CLIPS_EACH * weights_RG @ classes_GK
    gain_R = np.nanmean(above_RK / np.where(below_RK > 0, below_RK, np.nan), axis=1)
    low, high = np.quantile(gain_R, [0.025, 0.975])
    return float(low), float(high)


def measure(
    world: World, n_recordings: int, n_seeds: int, n: int
) -> dict[str, tuple[float, float]]:
    """Return by method how often n intervals contain the true gain, and their mean width."""
    with Pool() as pool:
        found = pool.map(partial(list_ends, world, n_recordings, n_seeds), range(n))
    figures = {}
    for method in found[0][1]:
        ends = [(gain, *each[method]) for gain, each in found]
        covered = np.mean([low <= gain <= high for gain, low, high in ends])
        figures[method] = (float(covered), float(np.mean([high - low for _, low, high in ends])))
    return figures


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows, methods = [], []
    for n_recordings, seeds in ((40, (3, 5)), (116, (3, 5, 10))):
        for world in WORLDS:
            for n_seeds in seeds:
                figures = measure(world, n_recordings, n_seeds, options.simulations)
                methods = list(figures)
                rows.append(
                    [f"{world.name}, {n_recordings}", str(n_seeds)]
                    + [
                        f"{100 * covered:.1f} % ({100 * width:.1f})"
                        for covered, width in figures.values()
                    ]
                )
    table = format_table(["what differs, recordings", "seeds", *methods], rows)
    notes = (
        f"Share of {options.simulations} simulated comparisons whose 95 % interval of the gain in macro "
        "accuracy contains the true gain, and the mean width of the intervals in points. "
        f"{CLASSES} classes, {CLIPS_EACH} clips of each recording. Recordings and seeds: "
        "metrics.paired_bootstrap. Pigeonhole: recordings and seeds drawn with replacement, "
        "percentiles."
    )
    publish("coverage.py", "Coverage of intervals", torch.device("cpu"), f"{table}\n\n{notes}")


if __name__ == "__main__":
    main()
