"""Intervals of metrics over recordings and seeds: a paired bootstrap, and Student's t for the seeds.

A seeds, N clips, K classes, G recordings, J parts of a metric (classes, or one), R resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.scores import Floats, Integers, check_predictions, hits, losses
from metrics.several import PrecisionsOfGroups, binary_losses, check_targets

IntervalMetric = Literal["macro_accuracy", "accuracy", "log_loss", "mean_average_precision"]

MIN_SEEDS = 3
"""Fewer seeds say too little of how much seeds differ: an interval is then over recordings alone."""

# 256 resamples of TAU's 2,968 test recordings take 6 MB; of more than 4,096 recordings fewer, about 8 MB.
_RESAMPLES_AT_ONCE, _DRAWN_AT_ONCE = 256, 2**20
# A report judges thousands of systems on the same few sets of recordings: all of TAU's test fold, those of
# unseen devices, of each device, of each scene. The first of these are 6 MB, one byte a count.
_DRAWS_KEPT, _MOST_KEPT = 16, 2**23
# Halves the range in which an end of an interval lies to a 10^12th of it.
_HALVINGS = 40
_RANGES: dict[str, tuple[float, float]] = {
    "macro_accuracy": (0.0, 1.0),
    "accuracy": (0.0, 1.0),
    "log_loss": (0.0, np.inf),
    "mean_average_precision": (0.0, 1.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """The value of a metric with its bootstrap interval."""

    value: float
    """The value for the clips themselves, without resampling."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedComparison:
    """A metric of two systems on the same clips."""

    first: Interval
    second: Interval
    difference: Interval
    """Second minus first; the systems differ if the interval does not contain 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    """The parts of a metric, summed within each recording; the metric is the mean of their ratios."""

    above_AGJ: Floats
    below_GJ: Floats

    @property
    def n_seeds(self) -> int:
        """The number of seeds."""
        return len(self.above_AGJ)

    def compute(self, weights_RG: Floats) -> Floats:
        """Return the metric [R, A] of each resample and seed; recording g occurs weights[r, g] times."""
        below_RJ = weights_RG @ self.below_GJ
        # Classes that are missing from a resample do not count, as in macro_accuracy.
        occurs_RJ = below_RJ > 0
        return np.stack(
            [
                _divide(weights_RG @ above_GJ, below_RJ, occurs_RJ).sum(axis=1)
                / occurs_RJ.sum(axis=1)
                for above_GJ in self.above_AGJ
            ],
            axis=1,
        )

    def compute_values(self) -> Floats:
        """Return the metric [A] of the clips themselves for each seed."""
        return self.compute(np.ones((1, len(self.below_GJ))))[0]


def bootstrap(
    logits: ArrayLike,
    labels_N: ArrayLike,
    recordings_N: ArrayLike,
    *,
    metric: IntervalMetric = "macro_accuracy",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return a metric of one system with its interval; see `paired_bootstrap`."""
    recording_N, n_recordings = _number_recordings(recordings_N, labels_N)
    sums = _sum_parts(_list_seeds(logits), labels_N, recording_N, metric)
    _check_settings(level, n_resamples)
    drawn = [sums.compute(w) for w in _draw_weights(n_recordings, n_resamples, seed)]
    return _build_interval(
        sums.compute_values(), np.concatenate(drawn), level, limits=_RANGES[metric]
    )


def paired_bootstrap(
    first: ArrayLike,
    second: ArrayLike,
    labels_N: ArrayLike,
    recordings_N: ArrayLike,
    *,
    metric: IntervalMetric = "macro_accuracy",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Return a metric of two systems, and its difference, with intervals over recordings and seeds.

    Clips of one recording are alike, so whole recordings are drawn with replacement, as many as
    there are (cluster bootstrap: Davison and Hinkley 1997, section 3.8; percentiles: Efron and
    Tibshirani 1993, section 13.3). Both systems are evaluated on the same draws, so a draw that is
    hard for both does not widen the interval of the difference; seed by seed, so neither does a
    seed that is bad for both.

    From three seeds on, Student's t of the seeds' values is added to the drawn values, with one
    degree of freedom less than there are seeds. Seeds differ by what they do on all recordings and
    by what they do on just these ones. Drawing recordings shows the second part too, so the draws
    shrink by its share. The variance is then that of the recordings, plus that of the seeds, less
    what both contain (Cameron, Gelbach and Miller 2011, "Robust inference with multiway
    clustering", section 2), and t makes up for how little a few seeds say of their variance. With
    fewer seeds the interval is over recordings alone.

    Why seeds are not drawn as recordings are (Owen 2007, "The pigeonhole bootstrap"): that counts
    the second part three times, and (A-1)/A of the variance of A seeds. On simulated gains 95 %
    intervals contain the true gain in 95 to 99 % of the cases with 3 seeds and in 94 to 98 % with
    5; seeds that are drawn give 84 to 100 % and 95 to 100 %, recordings alone 43 to 95 % and 54 to
    96 % (benchmarks/coverage.py). With 3 seeds the interval is 1.5 to 2 times as wide as with 5.

    Args:
        first: Logits of the first system, [N, K], or one such array for each seed, [A, N, K].
        second: Logits of the second system for the same clips and as many seeds; seeds of the same
            position are compared with each other.
        labels_N: True classes.
        recordings_N: Recording of each clip, or whatever is drawn as a whole; at least two
            different ones.
        metric: `macro_accuracy` over the classes that occur, `accuracy` or `log_loss`; of several
            labels a clip, zeros and ones [N, K], `mean_average_precision` or `log_loss`; of seeds,
            the mean.
        level: Share of the resamples within the interval.
        n_resamples: Number of draws; 2000 fix the ends of a 95 % interval to about 2 % of its
            width.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: Shapes, numbers of seeds, labels or settings are wrong, or there are fewer than
            two recordings.
    """
    recording_N, n_recordings = _number_recordings(recordings_N, labels_N)
    one_ANK, two_ANK = _list_seeds(first), _list_seeds(second)
    n_seeds = len(one_ANK)
    if n_seeds != len(two_ANK):
        raise ValueError(
            f"{n_seeds} seed(s) of the first system and {len(two_ANK)} of the "
            "second, expected as many, in the same order"
        )
    # What both are divided by, which the labels give, is computed once for each draw.
    sums = _sum_parts([*one_ANK, *two_ANK], labels_N, recording_N, metric)
    _check_settings(level, n_resamples)
    drawn = [sums.compute(w) for w in _draw_weights(n_recordings, n_resamples, seed)]
    one_RA, two_RA = np.split(np.concatenate(drawn), [n_seeds], axis=1)
    one_A, two_A = np.split(sums.compute_values(), [n_seeds])
    low, high = limits = _RANGES[metric]
    return PairedComparison(
        first=_build_interval(one_A, one_RA, level, limits),
        second=_build_interval(two_A, two_RA, level, limits),
        difference=_build_interval(two_A - one_A, two_RA - one_RA, level, (low - high, high - low)),
    )


def _number_recordings(recordings_N: ArrayLike, labels_N: ArrayLike) -> tuple[Integers, int]:
    recordings, labels = np.asarray(recordings_N), np.asarray(labels_N)
    if recordings.shape != labels.shape[:1]:
        raise ValueError(
            f"recordings have shape {recordings.shape}, expected {labels.shape[:1]}: one per clip"
        )
    names, recording_N = np.unique(recordings, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"{len(names)} recording(s), expected at least 2 to draw from")
    return recording_N.astype(np.int64), len(names)


def _check_settings(level: float, n_resamples: int) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level={level!r}, expected a share between 0 and 1")
    if n_resamples < 1:
        raise ValueError(f"n_resamples={n_resamples!r}, expected at least 1")


def _list_seeds(logits: ArrayLike) -> list[np.ndarray]:
    """Return the logits [N, K] of each seed."""
    logits_ANK = np.asarray(logits)
    logits_ANK = logits_ANK[None] if logits_ANK.ndim == 2 else logits_ANK
    if len(logits_ANK) == 0:
        raise ValueError("logits of no seed, expected (clips, classes) or (seeds, clips, classes)")
    return list(logits_ANK)


def _sum_parts(
    logits_ANK: Sequence[np.ndarray],
    labels_N: ArrayLike,
    recording_N: Integers,
    metric: IntervalMetric,
) -> _Sums | PrecisionsOfGroups:
    if metric == "mean_average_precision":
        return PrecisionsOfGroups(logits_ANK, labels_N, recording_N)
    sums = [_sum_parts_of_seed(each, labels_N, recording_N, metric) for each in logits_ANK]
    return _Sums(above_AGJ=np.stack([above_GJ for above_GJ, _ in sums]), below_GJ=sums[0][1])


def _sum_parts_of_seed(
    logits_NK: ArrayLike, labels_N: ArrayLike, recording_N: Integers, metric: IntervalMetric
) -> tuple[Floats, Floats]:
    if np.ndim(labels_N) == 2 and metric == "log_loss":
        return _sum_losses(binary_losses(*check_targets(logits_NK, labels_N)), recording_N)
    logits, labels = check_predictions(logits_NK, labels_N)
    everything = np.zeros_like(labels)
    match metric:
        case "macro_accuracy":
            value_N, part_N, n_parts = hits(logits, labels), labels, logits.shape[1]
        case "accuracy":
            value_N, part_N, n_parts = hits(logits, labels), everything, 1
        case "log_loss":
            value_N, part_N, n_parts = losses(logits, labels), everything, 1
        case _:
            raise ValueError(f"metric={metric!r}, expected macro_accuracy, accuracy or log_loss")
    shape = (int(recording_N.max()) + 1, n_parts)
    cell_N = recording_N * n_parts + part_N
    size = shape[0] * shape[1]
    above = np.bincount(cell_N, weights=value_N, minlength=size).reshape(shape).astype(float)
    return above, np.bincount(cell_N, minlength=size).reshape(shape).astype(np.float64)


def _sum_losses(loss_N: Floats, recording_N: Integers) -> tuple[Floats, Floats]:
    above_G = np.bincount(recording_N, weights=loss_N).astype(np.float64)
    return above_G[:, None], np.bincount(recording_N)[:, None].astype(np.float64)


def _draw_weights(n_recordings: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each recording occurs in each resample, a block of resamples at a time."""
    is_kept = n_recordings * n_resamples <= _MOST_KEPT
    draw = _keep_counts if is_kept else _draw_counts
    for counts_RG in draw(n_recordings, n_resamples, seed):
        yield counts_RG.astype(np.float64)


@lru_cache(_DRAWS_KEPT)
def _keep_counts(n_recordings: int, n_resamples: int, seed: int) -> tuple[Integers, ...]:
    """Draw once for all systems that are judged on the same recordings, and keep it in few bytes."""
    blocks = _draw_counts(n_recordings, n_resamples, seed)
    return tuple(each.astype(np.min_scalar_type(each.max())) for each in blocks)


def _draw_counts(n_recordings: int, n_resamples: int, seed: int) -> Iterator[Integers]:
    generator = np.random.default_rng(seed)
    # A power of two: with others, sums of losses differ in their last bits from those of other blocks.
    at_once = min(
        _RESAMPLES_AT_ONCE, 1 << max(3, (_DRAWN_AT_ONCE // n_recordings).bit_length() - 1)
    )
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        drawn_RG = generator.integers(n_recordings, size=(n, n_recordings))
        cells = drawn_RG + n_recordings * np.arange(n)[:, None]
        yield np.bincount(cells.ravel(), minlength=n * n_recordings).reshape(n, n_recordings)


def _divide(above_RJ: Floats, below_RJ: Floats, occurs_RJ: NDArray[np.bool_]) -> Floats:
    return np.divide(above_RJ, below_RJ, out=np.zeros_like(above_RJ), where=occurs_RJ)


def _build_interval(
    value_A: Floats, drawn_RA: Floats, level: float, limits: tuple[float, float]
) -> Interval:
    """Build the interval of the mean over seeds.

    Args:
        value_A: the metric of each seed without resampling.
        drawn_RA: the metric of each seed in each draw of recordings.
        level: share of the draws within the interval.
        limits: what the metric can be at least and at most.
    """
    shares = ((1 - level) / 2, (1 + level) / 2)
    value, drawn_R = float(value_A.mean()), drawn_RA.mean(axis=1)
    if len(value_A) < MIN_SEEDS:
        ends = np.quantile(drawn_R, shares).tolist()
    else:
        deviation = float(value_A.std(ddof=1)) / len(value_A) ** 0.5
        own_R = value + (drawn_R - value) * _find_share_of_recordings(drawn_RA) ** 0.5
        ends = [_find_quantile(own_R, deviation, len(value_A) - 1, share) for share in shares]
    low, high = np.clip(ends, *limits)
    return Interval(value=value, low=float(low), high=float(high))


def _find_share_of_recordings(drawn_RA: Floats) -> float:
    """Return the share of the draws' variance that more seeds would not make smaller, 0...1."""
    mean_R, n_seeds = drawn_RA.mean(axis=1), drawn_RA.shape[1]
    # How the seeds' distances from their mean vary with the recordings, for a mean of seeds.
    of_seeds = (drawn_RA - mean_R[:, None]).var(axis=0).sum() / (n_seeds - 1) / n_seeds
    variance = float(mean_R.var())
    return 1 - float(of_seeds) / variance if of_seeds < variance else 0.0


def _find_quantile(drawn_R: Floats, deviation: float, degrees: int, share: float) -> float:
    """Return the quantile of a draw plus the deviation times Student's t, exactly for these draws."""
    if deviation == 0:
        return float(np.quantile(drawn_R, share))
    # Imported here: it takes a third of a second, and commands that only list start without it.
    from scipy.special import stdtr, stdtrit

    furthest = deviation * stdtrit(degrees, share)
    low, high = drawn_R.min() + furthest, drawn_R.max() + furthest
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if stdtr(degrees, (middle - drawn_R) / deviation).mean() < share:
            low = middle
        else:
            high = middle
    return (low + high) / 2
