"""What a selection minimises, step by step (M members, N clips, K classes).

An objective keeps the sum of the chosen members. For each candidate it gives a lower bound of the
loss with it (`bound`), an approximation (`approximate`) and the exact loss (`compute`).
"""

import math
from typing import Literal, Protocol

import numpy as np

from ensemble import kernels, probability_kernels, score_kernels
from ensemble.arithmetic import LOG2_E, Singles
from ensemble.blocks import (
    Rows,
    as_float64,
    fill_vector,
)
from ensemble.kernels import Labels
from ensemble.tangents import Tangents
from ensemble.vectors import SINGLES_AT_ONCE
from metrics.scores import Floats, Integers

_EPSILON = 2.0**-24
"""Largest relative error of a rounding to float32."""
_PRODUCT_ROUNDINGS = kernels.CLIPS_PER_CHUNK // SINGLES_AT_ONCE + 1
"""Consecutive roundings in a sum of `kernels.products`, where each number of a vector has its own."""

_WORTH_A_TANGENT = 20
"""With fewer candidates, trying them is faster than bounding them, as it takes no exponentials."""


class SelectionObjective(Protocol):
    """The loss of the mean of the chosen members and one more; the loss is a mean over clips."""

    error: float
    """The largest error of `approximate`."""

    def bound(self) -> Floats:
        """Return lower bounds of the losses, [M]; -inf where nothing is known."""
        ...

    def expect(self) -> Floats:
        """Return the losses of the last tries, [M]; candidates with lower ones are tried sooner."""
        ...

    def sharpen(self, candidates: Integers) -> None:
        """Make the bounds of these candidates as sharp as possible."""
        ...

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Return the losses up to `error`; those certain to be above a limit may be inf."""
        ...

    def compute(self, member: int) -> float:
        """Return the candidate's loss in float64, which does not depend on earlier calls."""
        ...

    def add(self, member: int) -> None:
        """Add a member to the chosen ones."""
        ...


class LogLossOfLogits:
    """Log loss of the softmax of mean logits, which is convex in them."""

    def __init__(self, logits_MKN: Rows, labels_N: Labels, sizes_M: Floats) -> None:
        """Start without members.

        Args:
            logits_MKN: so small that sums of exponentials stay in the range of float32.
            labels_N: true classes.
            sizes_M: the largest absolute logit.
        """
        self._n = logits_MKN.shape[2]
        logits_MKN = fill_vector(logits_MKN)
        n_members, self._n_classes, n_filled = logits_MKN.shape
        n_numbers = self._n_classes * n_filled
        self._logits, self._places_M = logits_MKN.reshape(-1), np.arange(n_members) * n_numbers
        labels_at_N = labels_N * np.int64(n_filled) + np.arange(self._n)
        self._label_sum = 0.0
        self._label_sums_M = kernels.sum_taken(logits_MKN.reshape(n_members, -1), labels_at_N)
        self._sum = np.zeros(n_numbers)
        self._n_chosen = 0
        self._tangents = Tangents(n_members)
        self._size = float(sizes_M.max())
        # A mean logit has five roundings (of its sum, twice of the scale, of the product, and of a
        # float64 candidate itself), a sum of exponentials one for each class and four for the
        # power, and a product of sums one for each.
        self.error = _EPSILON * (5 * self._size + self._n_classes + 5)
        # The chosen members' part of the exponents in `approximate`.
        self._base = np.zeros(n_numbers, np.float32)
        # The softmax of the last computed mean, the member it was for, and the sums of its chunks.
        self._soft = np.empty(n_numbers, np.float32)
        self._total_N, self._agreement_N = np.ones(kernels.fill_block(self._n)), np.empty(n_filled)
        self._last_M = np.zeros(n_members)
        self._soft_of = -1
        n_chunks = kernels.count_chunks(self._n)
        self._logs_J, self._agreements_J = np.empty(n_chunks), np.empty(n_chunks)
        self._firsts_J = np.arange(n_chunks) * kernels.CLIPS_PER_CHUNK
        # Lower bounds of the logs of the chunks from each one to the end, for the next candidates.
        self._rests_MJ = np.full((n_members, n_chunks), -np.inf)

    def bound(self) -> Floats:
        """Return bounds from the tangents so far; see `SelectionObjective`."""
        return self._tangents.bound(self._n_chosen + 1)

    def expect(self) -> Floats:
        """See `SelectionObjective`."""
        return self._last_M

    def sharpen(self, candidates: Integers) -> None:
        """Add a tangent at the mean of the chosen members.

        Its gradient is softmax(mean) - onehot(label), over N.
        """
        if not self._n_chosen or self._n < SINGLES_AT_ONCE:
            return
        places_C, n_chosen = self._places_M[candidates], self._n_chosen
        products_CJ = compute_products(self._logits, places_C, self._soft, self._n_classes)
        # The largest effect of rounding on the products and on the labels' sums.
        doubt = (_PRODUCT_ROUNDINGS + 2) * _EPSILON * self._size
        agreements = products_CJ.sum(axis=1) - self._label_sums_M[candidates]
        products_M = np.full(len(self._places_M), np.nan)
        products_M[candidates] = agreements / self._n - doubt
        # The softmax and float64 labels were rounded, which tilts the tangent about the mean.
        tilt = 4 * _EPSILON * self._size
        height = (float(self._agreements_J.sum()) - self._label_sum) / self._n
        loss = (float(self._logs_J.sum()) - self._label_sum / n_chosen) / self._n
        self._tangents.append(loss - height / n_chosen - tilt, height, products_M)
        # The sums from the last chunk on.
        logs_J = self._logs_J - self._agreements_J * (1 / n_chosen - 1 / (n_chosen + 1))
        rests_CJ = (logs_J + products_CJ / (n_chosen + 1))[:, ::-1].cumsum(axis=1)[:, ::-1]
        self._rests_MJ[candidates] = rests_CJ - self._n * (doubt + tilt)

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Approximate in float32; see `SelectionObjective`."""
        if self._n < SINGLES_AT_ONCE:
            return np.array([self.compute(int(member)) for member in candidates])
        scale = self._scale()
        # The labels' logits take the same scale as the exponents.
        labels = (self._label_sum + self._label_sums_M[candidates]) * (scale * math.log(2))
        logs = np.zeros(len(candidates))
        kernels.logs_of_sums(
            self._logits,
            self._places_M[candidates],
            self._base,
            self._n_classes,
            np.float32(scale),
            self._rests_MJ[candidates],
            self._n * (limit + self.error) + labels,
            logs,
        )
        losses = (logs - labels) / self._n
        self._last_M[candidates] = losses
        return losses

    def compute(self, member: int) -> float:
        """Also compute the softmax of the mean, for `sharpen`; see `SelectionObjective`."""
        n_members = self._n_chosen + 1
        kernels.softmax(
            self._logits,
            self._places_M[member],
            self._sum,
            self._n_classes,
            LOG2_E / n_members,
            self._soft,
            self._total_N,
            self._agreement_N,
        )
        if self._n < SINGLES_AT_ONCE:
            self._total_N[self._n :] = 1
        kernels.logs_by_chunk(self._total_N, self._logs_J)
        np.add.reduceat(self._agreement_N, self._firsts_J, out=self._agreements_J)
        self._soft_of = member
        label_sum = self._label_sum + float(self._label_sums_M[member])
        return (float(self._logs_J.sum()) - label_sum / n_members) / self._n

    def add(self, member: int) -> None:
        """See `SelectionObjective`."""
        if self._soft_of != member:
            self.compute(member)
        self._n_chosen += 1
        place = self._places_M[member]
        kernels.add_member(self._logits, place, self._sum, self._scale(), self._sum, self._base)
        self._soft_of = -1
        self._label_sum += float(self._label_sums_M[member])
        self._rests_MJ[:] = -np.inf
        self._tangents.add(member)

    def _scale(self) -> float:
        """Return the scale of the next candidates' exponents, rounded to float32."""
        return float(np.float32(math.log2(math.e) / (self._n_chosen + 1)))


class LogLossOfProbabilities:
    """Minus the logarithm of the label's mean probability, which is convex in it."""

    def __init__(self, logits_MKN: Rows, labels_N: Labels, sizes_M: Floats, *, small: bool) -> None:
        """Start without members.

        Args:
            logits_MKN: finite.
            labels_N: true classes.
            sizes_M: mean over clips of the largest absolute logit.
            small: whether sums of exponentials of all logits stay in float32.
        """
        self._logits_MKN, self._labels_N = logits_MKN, labels_N
        n_members, n_classes, self._n = logits_MKN.shape
        self._likelihoods_MN = np.empty((n_members, self._n), np.float32)
        for logits_KN, row_N in zip(logits_MKN, self._likelihoods_MN, strict=True):
            probability_kernels.about_of_labels(logits_KN, labels_N, small, row_N)
        self._precise: dict[int, Floats] = {}
        self._sum_N = np.zeros(self._n)
        self._slopes_N = np.empty(self._n, np.float32)
        self._n_chosen = 0
        self._tangents = Tangents(n_members)
        self._last_M = np.full(n_members, np.inf)
        # An exponent, at most twice the largest logit, has three roundings, in the label's power
        # and in the sum, which has one more for each class; powers and the division have five.
        self.error = _EPSILON * (12 * float(sizes_M.max()) + n_classes + 5)

    def bound(self) -> Floats:
        """Return bounds from the tangents so far; see `SelectionObjective`."""
        return self._tangents.bound(self._n_chosen + 1)

    def expect(self) -> Floats:
        """See `SelectionObjective`."""
        return self._last_M

    def sharpen(self, candidates: Integers) -> None:
        """Add a tangent near the mean of the chosen members.

        For any w > 0, -log p >= 1 + log w - w p, with equality at p = 1/w. Rounding w moves the
        point of equality, but the bound remains valid.
        """
        if not self._n_chosen or len(candidates) < _WORTH_A_TANGENT or self._n < SINGLES_AT_ONCE:
            return
        logs, heights = probability_kernels.tangent(self._sum_N, self._n_chosen, self._slopes_N)
        rows = self._likelihoods_MN.reshape(-1)
        products_CJ = compute_products(rows, candidates * self._n, self._slopes_N, 1)
        products = products_CJ.sum(axis=1) / self._n
        products *= 1 + _EPSILON * _PRODUCT_ROUNDINGS
        products_M = np.full(len(self._likelihoods_MN), np.nan)
        products_M[candidates] = -products
        # Likelihoods in float32 replace the precise ones, now and when members are added.
        constant = 1 + logs / self._n - 2 * self.error
        self._tangents.append(constant, -heights / self._n, products_M)

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Approximate from likelihoods in float32; see `SelectionObjective`."""
        logs = probability_kernels.sum_logs(self._likelihoods_MN, candidates, self._sum_N)
        self._last_M[candidates] = self._compute_mean_loss(logs)
        return self._last_M[candidates]

    def compute(self, member: int) -> float:
        """Compute from likelihoods in float64; see `SelectionObjective`."""
        row_1N, only = self._compute_likelihoods(member)[None], np.zeros(1, np.int64)
        return float(
            self._compute_mean_loss(probability_kernels.sum_logs(row_1N, only, self._sum_N))[0]
        )

    def add(self, member: int) -> None:
        """See `SelectionObjective`."""
        self._sum_N += self._compute_likelihoods(member)
        self._n_chosen += 1
        self._tangents.add(member)

    def _compute_mean_loss(self, logs: Floats) -> Floats:
        return math.log(self._n_chosen + 1) - logs / self._n

    def _compute_likelihoods(self, member: int) -> Floats:
        """Return the member's likelihoods in float64, which are kept for the few that need them."""
        if member not in self._precise:
            logits_KN = as_float64(self._logits_MKN[member])
            self._precise[member] = probability_kernels.of_labels(logits_KN, self._labels_N)
        return self._precise[member]


def compute_products(rows: Rows, places_C: Integers, weights: Singles, n_classes: int) -> Floats:
    """Return the result of `kernels.products` for any number of candidates, [C, J]."""
    n_chunks = kernels.count_chunks(len(weights) // n_classes)
    n_more = -len(places_C) % kernels.CANDIDATES_AT_ONCE
    result_CJ = np.zeros((len(places_C) + n_more, n_chunks))
    places = np.append(places_C, [places_C[-1]] * n_more) if n_more else places_C
    kernels.products(rows, places, weights, n_classes, result_CJ)
    return result_CJ[: len(places_C)]


class EveryCandidate:
    """A loss without bounds: all candidates are computed."""

    error = 0.0

    def __init__(
        self,
        logits_MKN: Rows,
        labels_N: Labels,
        *,
        space: Literal["logits", "probabilities"],
        metric: Literal["log_loss", "macro_accuracy", "brier", "mean_average_precision"],
    ) -> None:
        """Start without members."""
        self._logits_MKN, self._labels_N = logits_MKN, labels_N
        self._space, self._metric = space, metric
        n_members, n_classes, self._n = logits_MKN.shape
        self._unknown_M = np.full(n_members, -np.inf)
        self._sum_KN = np.zeros((n_classes, self._n))
        self._n_chosen = 0
        self._clips_K = np.bincount(labels_N, minlength=n_classes)

    def bound(self) -> Floats:
        """Return that nothing is known; see `SelectionObjective`."""
        return self._unknown_M

    def expect(self) -> Floats:
        """Return that nothing is known; see `SelectionObjective`."""
        return self._unknown_M

    def sharpen(self, candidates: Integers) -> None:
        """Do nothing; see `SelectionObjective`."""

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Compute the exact losses; see `SelectionObjective`."""
        return np.array([self.compute(int(member)) for member in candidates])

    def compute(self, member: int) -> float:
        """Compute in float64; see `SelectionObjective`."""
        numbers_KN, n_members = self._convert(member), self._n_chosen + 1
        if self._metric == "macro_accuracy":
            hits_K = score_kernels.count_hits(numbers_KN, self._sum_KN, self._labels_N)
            occurs_K = self._clips_K > 0
            return 1 - float((hits_K[occurs_K] / self._clips_K[occurs_K]).mean())
        arguments = (numbers_KN, self._sum_KN, n_members, self._labels_N)
        if self._metric == "brier":
            return score_kernels.sum_brier(*arguments, self._space == "probabilities") / self._n
        return kernels.sum_log_loss(*arguments) / self._n

    def add(self, member: int) -> None:
        """See `SelectionObjective`."""
        self._sum_KN += self._convert(member)
        self._n_chosen += 1

    def _convert(self, member: int) -> Floats:
        """Return the member's numbers that are averaged."""
        logits_KN = as_float64(self._logits_MKN[member])
        return logits_KN if self._space == "logits" else score_kernels.probabilities(logits_KN)
