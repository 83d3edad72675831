"""Intervals of metrics by a paired bootstrap over recordings.

N clips, K classes, G recordings, J parts of a metric (classes, or one), R resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.scores import Floats, Integers, check_predictions, hits, losses

IntervalMetric = Literal["macro_accuracy", "accuracy", "log_loss"]

# 256 resamples of TAU's 2,968 test recordings take 6 MB.
_RESAMPLES_AT_ONCE = 256


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

    above_GJ: Floats
    below_GJ: Floats

    def compute(self, weights_RG: Floats) -> Floats:
        """Return the metric of each resample r, in which recording g occurs weights[r, g] times."""
        above_RJ, below_RJ = weights_RG @ self.above_GJ, weights_RG @ self.below_GJ
        # Classes that are missing from a resample do not count, as in macro_accuracy.
        occurs_RJ = below_RJ > 0
        ratio_RJ = np.divide(above_RJ, below_RJ, out=np.zeros_like(above_RJ), where=occurs_RJ)
        return ratio_RJ.sum(axis=1) / occurs_RJ.sum(axis=1)


def bootstrap(
    logits_NK: ArrayLike,
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
    sums = _sum_parts(logits_NK, labels_N, recording_N, metric)
    _check_settings(level, n_resamples)
    resampled = [sums.compute(w) for w in _draw_weights(n_recordings, n_resamples, seed)]
    return _build_interval(_compute_value(sums), np.concatenate(resampled), level)


def paired_bootstrap(
    first_NK: ArrayLike,
    second_NK: ArrayLike,
    labels_N: ArrayLike,
    recordings_N: ArrayLike,
    *,
    metric: IntervalMetric = "macro_accuracy",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Return a metric of two systems, and its difference, with percentile intervals.

    Clips of one recording are alike, so whole recordings are drawn with replacement, as many as
    there are (cluster bootstrap: Davison and Hinkley 1997, section 3.8; percentiles: Efron and
    Tibshirani 1993, section 13.3). Both systems are evaluated on the same draws, so a draw that is
    hard for both does not widen the interval of the difference.

    Args:
        first_NK: Logits of the first system.
        second_NK: Logits of the second system for the same clips.
        labels_N: True classes.
        recordings_N: Recording of each clip; at least two different ones.
        metric: `macro_accuracy` over the classes that occur, `accuracy` or `log_loss`.
        level: Share of the resamples within the interval.
        n_resamples: Number of draws; 2000 fix the ends of a 95 % interval to about 2 % of its
            width.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: Shapes, labels or settings are wrong, or there are fewer than two recordings.
    """
    recording_N, n_recordings = _number_recordings(recordings_N, labels_N)
    first = _sum_parts(first_NK, labels_N, recording_N, metric)
    second = _sum_parts(second_NK, labels_N, recording_N, metric)
    _check_settings(level, n_resamples)
    pairs = [
        (first.compute(weights_RG), second.compute(weights_RG))
        for weights_RG in _draw_weights(n_recordings, n_resamples, seed)
    ]
    first_R, second_R = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return PairedComparison(
        first=_build_interval(_compute_value(first), first_R, level),
        second=_build_interval(_compute_value(second), second_R, level),
        difference=_build_interval(
            _compute_value(second) - _compute_value(first), second_R - first_R, level
        ),
    )


def _number_recordings(recordings_N: ArrayLike, labels_N: ArrayLike) -> tuple[Integers, int]:
    recordings, labels = np.asarray(recordings_N), np.asarray(labels_N)
    if recordings.shape != labels.shape:
        raise ValueError(
            f"recordings have shape {recordings.shape}, expected {labels.shape}: one per clip"
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


def _sum_parts(
    logits_NK: ArrayLike, labels_N: ArrayLike, recording_N: Integers, metric: IntervalMetric
) -> _Sums:
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
    return _Sums(
        above_GJ=np.bincount(cell_N, weights=value_N, minlength=size).reshape(shape).astype(float),
        below_GJ=np.bincount(cell_N, minlength=size).reshape(shape).astype(np.float64),
    )


def _draw_weights(n_recordings: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Yield how often each recording occurs in each resample, a block of resamples at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        n = min(_RESAMPLES_AT_ONCE, n_resamples - start)
        drawn_RG = generator.integers(n_recordings, size=(n, n_recordings))
        cells = drawn_RG + n_recordings * np.arange(n)[:, None]
        counts = np.bincount(cells.ravel(), minlength=n * n_recordings)
        yield counts.reshape(n, n_recordings).astype(np.float64)


def _compute_value(sums: _Sums) -> float:
    return float(sums.compute(np.ones((1, len(sums.below_GJ))))[0])


def _build_interval(value: float, resampled_R: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(resampled_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))
