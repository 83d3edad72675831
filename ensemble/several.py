"""Clips with several labels or none, for everything here that knows one label a clip.

A class that a clip has or has not is a choice of two. So N clips of K classes are N * K choices, clip by
clip, with the logits 0 and z: their softmax is the sigmoid of z, the mean cross entropy over choices is the
mean of the binary ones over clips and classes, and means of logits or probabilities are what they are.
Selection with its exact pruning, weights, temperatures and optimism then hold as for one label a clip.

Dimensions: M members, N clips, K classes, C = N * K choices.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.arithmetic import Singles
from ensemble.blocks import Rows, as_float64, check_logits
from ensemble.options import MeanSpace
from metrics.scores import Floats, Integers
from metrics.several import RankedClips

_SUREST = 600.0
"""Beyond it an exponential leaves float64; the order of such clips no longer matters."""


def to_choices(logits_MNK: ArrayLike) -> NDArray[np.floating]:
    """Return the logits of the choices [M, C, 2], of the same type, laid out as in the store.

    Raises:
        ValueError: they are not floats of shape (members, clips, classes).
    """
    logits = check_logits(logits_MNK)
    choices_M2C = np.zeros((len(logits), 2, logits[0].size), logits.dtype)
    choices_M2C[:, 1] = logits.reshape(len(logits), -1)
    return choices_M2C.transpose(0, 2, 1)


def from_choices(logits_MC2: NDArray[np.floating], n_classes: int) -> NDArray[np.floating]:
    """Return the log odds of each class [M, N, K] from logits of choices."""
    return (logits_MC2[..., 1] - logits_MC2[..., 0]).reshape(len(logits_MC2), -1, n_classes)


def sigmoid(logits_NK: Singles, temperature: float) -> Singles:
    """Return the probability of each class at a temperature, float32."""
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits_NK.astype(np.float64) / temperature))).astype(np.float32)


class EveryPrecision:
    """1 minus the mAP of the mean of the chosen members and one more; see `SelectionObjective`.

    It is convex in nothing that is averaged, so there is no bound, and each candidate is computed.
    """

    error = 0.0

    def __init__(self, logits_MKN: Rows, targets_NK: NDArray[np.bool_], space: MeanSpace) -> None:
        """Start without members."""
        self._logits_MKN, self._space = logits_MKN, space
        self._targets_KN = targets_NK.T
        self._unknown_M = np.full(len(logits_MKN), -np.inf)
        self._sum_KN = np.zeros(self._targets_KN.shape)

    def bound(self) -> Floats:
        """Return that nothing is known."""
        return self._unknown_M

    def expect(self) -> Floats:
        """Return that nothing is known."""
        return self._unknown_M

    def sharpen(self, candidates: Integers) -> None:
        """Do nothing."""

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Compute the exact losses."""
        return np.array([self.compute(int(member)) for member in candidates])

    def compute(self, member: int) -> float:
        """Compute in float64; 1 if no clip has any class. A sum has the order of the mean."""
        sum_KN = self._sum_KN + self._convert(member)
        weights_1N = np.ones((1, sum_KN.shape[1]))
        found = [
            RankedClips.of(sum_N, targets_N).compute_precision(weights_1N)[0]
            for sum_N, targets_N in zip(sum_KN, self._targets_KN, strict=True)
            if targets_N.any()
        ]
        return 1 - float(np.mean(found)) if found else 1.0

    def add(self, member: int) -> None:
        """Add a member to the chosen ones."""
        self._sum_KN += self._convert(member)

    def _convert(self, member: int) -> Floats:
        logits_KN = as_float64(self._logits_MKN[member])
        if self._space == "logits":
            return logits_KN
        return 1 / (1 + np.exp(-np.clip(logits_KN, -_SUREST, _SUREST)))
