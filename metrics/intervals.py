"""How sure a figure is: a paired bootstrap over recordings.

N clips, K classes, G recordings, J parts of a figure (classes, or one), R resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics.scores import Floats, Integers, checked, hits, losses

Figure = Literal["macro_accuracy", "accuracy", "log_loss"]

# 256 resamples of TAU's 2,968 test recordings take 6 MB.
_RESAMPLES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure with the interval that the bootstrap gives it."""

    value: float
    """On the clips as they are."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two systems on the same clips."""

    first: Interval
    second: Interval
    difference: Interval
    """Second minus first: the systems differ when it does not hold 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sums:
    """A figure's parts, summed within each recording; the figure is the mean of their ratios."""

    above_GJ: Floats
    below_GJ: Floats

    def figure(self, weights_RG: Floats) -> Floats:
        """The figure of each resample, in which recording g occurs weights[r, g] times."""
        above_RJ, below_RJ = weights_RG @ self.above_GJ, weights_RG @ self.below_GJ
        # A class that a resample happens to miss does not count in it, as in macro_accuracy.
        occurs_RJ = below_RJ > 0
        ratio_RJ = np.divide(above_RJ, below_RJ, out=np.zeros_like(above_RJ), where=occurs_RJ)
        return ratio_RJ.sum(axis=1) / occurs_RJ.sum(axis=1)


def bootstrap(
    logits_NK: ArrayLike,
    labels_N: ArrayLike,
    recordings_N: ArrayLike,
    *,
    figure: Figure = "macro_accuracy",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """A figure of one system and its interval; see `paired_bootstrap`."""
    recording_N, n_recordings = _recordings(recordings_N, labels_N)
    sums = _sums(logits_NK, labels_N, recording_N, figure)
    _check_settings(level, n_resamples)
    resampled = [sums.figure(w) for w in _weights(n_recordings, n_resamples, seed)]
    return _interval(_value(sums), np.concatenate(resampled), level)


def paired_bootstrap(
    first_NK: ArrayLike,
    second_NK: ArrayLike,
    labels_N: ArrayLike,
    recordings_N: ArrayLike,
    *,
    figure: Figure = "macro_accuracy",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """A figure of two systems, and of their difference, with percentile intervals.

    Clips cut from one recording are alike, so whole recordings are drawn with replacement, as many
    as there are (cluster bootstrap: Davison and Hinkley 1997, section 3.8; percentiles: Efron and
    Tibshirani 1993, section 13.3). Both systems meet the same draws: what makes a draw hard for
    both does not widen the interval of the difference.

    Args:
        first_NK: Logits of the first system.
        second_NK: Logits of the second system for the same clips.
        labels_N: True classes.
        recordings_N: What each clip was cut from, at least two recordings.
        figure: `macro_accuracy` over the classes that occur, `accuracy` or `log_loss`.
        level: Share of the resamples within the interval.
        n_resamples: Draws; 2000 settle the ends of a 95 % interval to about 2 % of its width.
        seed: The same seed gives the same intervals.

    Raises:
        ValueError: Shapes, labels or settings that do not fit, or fewer than two recordings.
    """
    recording_N, n_recordings = _recordings(recordings_N, labels_N)
    first = _sums(first_NK, labels_N, recording_N, figure)
    second = _sums(second_NK, labels_N, recording_N, figure)
    _check_settings(level, n_resamples)
    pairs = [
        (first.figure(weights_RG), second.figure(weights_RG))
        for weights_RG in _weights(n_recordings, n_resamples, seed)
    ]
    first_R, second_R = (np.concatenate(figures) for figures in zip(*pairs, strict=True))
    return Comparison(
        first=_interval(_value(first), first_R, level),
        second=_interval(_value(second), second_R, level),
        difference=_interval(_value(second) - _value(first), second_R - first_R, level),
    )


def _recordings(recordings_N: ArrayLike, labels_N: ArrayLike) -> tuple[Integers, int]:
    recordings, labels = np.asarray(recordings_N), np.asarray(labels_N)
    if recordings.shape != labels.shape:
        raise ValueError(
            f"recordings have shape {recordings.shape}, expected {labels.shape}: one a clip"
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


def _sums(
    logits_NK: ArrayLike, labels_N: ArrayLike, recording_N: Integers, figure: Figure
) -> _Sums:
    logits, labels = checked(logits_NK, labels_N)
    everything = np.zeros_like(labels)
    match figure:
        case "macro_accuracy":
            value_N, part_N, n_parts = hits(logits, labels), labels, logits.shape[1]
        case "accuracy":
            value_N, part_N, n_parts = hits(logits, labels), everything, 1
        case "log_loss":
            value_N, part_N, n_parts = losses(logits, labels), everything, 1
        case _:
            raise ValueError(f"figure={figure!r}, expected macro_accuracy, accuracy or log_loss")
    shape = (int(recording_N.max()) + 1, n_parts)
    cell_N = recording_N * n_parts + part_N
    size = shape[0] * shape[1]
    return _Sums(
        above_GJ=np.bincount(cell_N, weights=value_N, minlength=size).reshape(shape).astype(float),
        below_GJ=np.bincount(cell_N, minlength=size).reshape(shape).astype(np.float64),
    )


def _weights(n_recordings: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """How often each recording occurs in each resample, some resamples at a time."""
    generator = np.random.default_rng(seed)
    for start in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        n = min(_RESAMPLES_AT_ONCE, n_resamples - start)
        drawn_RG = generator.integers(n_recordings, size=(n, n_recordings))
        cells = drawn_RG + n_recordings * np.arange(n)[:, None]
        counts = np.bincount(cells.ravel(), minlength=n * n_recordings)
        yield counts.reshape(n, n_recordings).astype(np.float64)


def _value(sums: _Sums) -> float:
    return float(sums.figure(np.ones((1, len(sums.below_GJ))))[0])


def _interval(value: float, resampled_R: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(resampled_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))
