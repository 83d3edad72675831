"""A linear head on embeddings, its L2 chosen by cross-validation over recordings.

Dimensions: N clips (of several views, one after the other), D features, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metrics import log_softmax
from teachers.logistic import Floats, Integers, Rotated, Solution, solve, weigh_by_class

L2_GRID = tuple(float(10**exponent) for exponent in np.arange(3, -1.75, -0.5))
"""Strengths that the cross-validation compares, the strongest first: 1,000 to 0.03, two a decade (OURS: on
embeddings of 512 dimensions of 93 to 389 clips the best were 1 to 10)."""
UNDECIDED_L2 = 10.0
"""Strength where each class has one recording, so that none can be held out (OURS)."""
PARTS_HELD_OUT = 5
"""Parts that recordings are dealt to: fewer where no class has as many recordings."""
COARSE_GRADIENT = 1e-3
"""Accuracy of the cross-validation: it changes held-out losses by 0.0001 nats at most, and takes a third
of the time."""
N_STEPS = 900
"""Evaluations of the loss in a fit with this grid and these parts, for estimates: 16 for each strength and
part, 100 for the last fit."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """What a probe has learnt: it stays as small as its weights, and needs no torch."""

    mean_D: Floats
    scale_D: Floats
    """Standard deviations; 1 for features that never change."""
    coefficients_KD: Floats
    """For standardised features."""
    intercepts_K: Floats

    def compute_logits(self, embeddings_ND: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return logits [N, K] of embeddings [N, D]."""
        standardised_ND = (embeddings_ND - self.mean_D) / self.scale_D
        logits_NK = standardised_ND @ self.coefficients_KD.T + self.intercepts_K
        return logits_NK.astype(np.float32)


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A head, and how its L2 was chosen."""

    head: LinearHead
    l2: float
    losses: tuple[float, ...]
    """Held-out log loss, all classes alike, in nats, for each strength of the grid; none if no recording
    could be held out."""


def fit_head(
    embeddings_ND: NDArray[np.floating],
    labels_N: Integers,
    recordings_N: NDArray[np.str_],
    n_classes: int,
    seed: int,
    l2_grid: Sequence[float] = L2_GRID,
    n_parts: int = PARTS_HELD_OUT,
) -> FittedHead:
    """Fit a multinomial logistic regression, balanced by class, to standardised embeddings.

    Args:
        embeddings_ND: of the clips to learn from; views of a clip are further rows.
        labels_N: class of each row.
        recordings_N: recording of each row, which the cross-validation keeps together.
        n_classes: number of classes; each must occur.
        seed: deals recordings to the parts of the cross-validation.
        l2_grid: strengths of the penalty that it compares, the strongest first.
        n_parts: number of its parts.

    Raises:
        ValueError: a class has no clip, or an embedding is not finite.
    """
    head, features_ND = _standardise(embeddings_ND, n_classes)
    missing = np.flatnonzero(np.bincount(labels_N, minlength=n_classes) == 0)
    if len(missing):
        raise ValueError(f"no clip to learn from is of class {', '.join(map(str, missing))}")
    rotated, weights_N = Rotated.of(features_ND), weigh_by_class(labels_N, n_classes)
    held_out = list(hold_out_recordings(labels_N, recordings_N, seed, n_parts))
    losses = _cross_validate(rotated, labels_N, weights_N, n_classes, held_out, l2_grid)
    l2 = l2_grid[int(np.argmin(losses))] if losses else UNDECIDED_L2
    everything = np.arange(len(labels_N))
    solution = solve(rotated, everything, labels_N, weights_N, n_classes, l2)
    coefficients_KD = (rotated.directions_DR @ solution.weights_RK).T
    # Equal shifts of all classes change no probability; this one is scikit-learn's.
    intercepts_K = solution.biases_K - solution.biases_K.mean()
    found = LinearHead(head.mean_D, head.scale_D, coefficients_KD, intercepts_K)
    return FittedHead(found, l2, losses)


def hold_out_recordings(
    labels_N: Integers, recordings_N: NDArray[np.str_], seed: int, n_parts: int
) -> Iterator[Integers]:
    """Yield the rows that each part holds out; the rows of a recording are in one part.

    Each class's recordings are dealt out in a random order, so that all parts have about as many of it.
    A class's only recording is never held out: nothing would be left to learn it from.
    """
    names, first_R, recording_N = np.unique(recordings_N, return_index=True, return_inverse=True)
    scene_R, part_R = labels_N[first_R], np.full(len(names), -1)
    randomness, dealt = np.random.default_rng(seed), 0
    for scene in np.unique(scene_R):
        own = randomness.permutation(np.flatnonzero(scene_R == scene))
        if len(own) > 1:
            part_R[own] = (dealt + np.arange(len(own))) % n_parts
            dealt += len(own)
    for part in range(n_parts):
        rows = np.flatnonzero(part_R[recording_N] == part)
        if len(rows):
            yield rows


def _standardise(
    embeddings_ND: NDArray[np.floating], n_classes: int
) -> tuple[LinearHead, NDArray[np.float64]]:
    """Return a head without weights, with the embeddings' mean and scale, and the standardised features."""
    features_ND = embeddings_ND.astype(np.float64)
    if not np.isfinite(features_ND).all():
        row = int(np.flatnonzero(~np.isfinite(features_ND).all(axis=1))[0])
        raise ValueError(f"the embedding in row {row} is not finite")
    mean_D, scale_D = features_ND.mean(axis=0), features_ND.std(axis=0)
    # A feature that never changes has a deviation of a rounding error, or 0.
    scale_D[scale_D <= 1e-12 * np.maximum(1, np.abs(mean_D))] = 1.0
    features_ND -= mean_D
    features_ND /= scale_D
    empty_KD = np.zeros((n_classes, features_ND.shape[1]))
    return LinearHead(mean_D, scale_D, empty_KD, np.zeros(n_classes)), features_ND


def _cross_validate(
    rotated: Rotated,
    labels_N: Integers,
    weights_N: Floats,
    n_classes: int,
    held_out: Sequence[Integers],
    l2_grid: Sequence[float],
) -> tuple[float, ...]:
    """Return the mean log loss of all held-out rows, all classes alike, for each strength.

    It is empty if no row is held out.
    """
    if not held_out:
        return ()
    loss_L = np.zeros(len(l2_grid))
    for rows in held_out:
        others = np.setdiff1d(np.arange(len(labels_N)), rows)
        solution: Solution | None = None
        for number, l2 in enumerate(l2_grid):
            solution = solve(
                rotated,
                others,
                labels_N[others],
                weigh_by_class(labels_N[others], n_classes),
                n_classes,
                l2,
                solution,
                COARSE_GRADIENT,
            )
            log_shares_NK = log_softmax(solution.compute_logits(rotated.coordinates_NR[rows]))
            loss_L[number] -= weights_N[rows] @ log_shares_NK[np.arange(len(rows)), labels_N[rows]]
    return tuple(loss_L / sum(weights_N[rows].sum() for rows in held_out))
