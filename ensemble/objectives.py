"""What a selection makes small, step by step (M members, N clips, K classes).

An objective holds the sum of the chosen members and answers for one more: at least how large its
loss is (`bounds`), about how large (`approximate`), exactly how large (`exact`).
"""

import math
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble import kernels, probability_kernels, score_kernels
from ensemble.blocks import Rows
from ensemble.tangents import Tangents

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Labels = NDArray[np.int32]

_EPSILON = 2.0**-24
"""Largest relative error of a rounding to float32."""
_PRODUCT_ROUNDINGS = 80
"""One after the other in a block of `kernels.products`: 512 numbers in at least 16 sums at a time,
which are added at the end, and up to 48 that fill no vector."""

_WORTH_A_TANGENT = 20
"""Candidates: fewer are tried sooner than bounded, as a likelihood takes no exponential."""


class Objective(Protocol):
    """The loss of the mean of the chosen members and one more; the loss is a mean over clips."""

    error: float
    """`approximate` is off by at most so much."""

    def bounds(self) -> Floats:
        """[M], lower bounds; -inf where nothing is known."""
        ...

    def expected(self) -> Floats:
        """[M], what each lost when it was last tried: the lower, the sooner it is worth a try."""
        ...

    def sharpen(self, candidates: Integers) -> None:
        """Make the bounds of these candidates as sharp as they get."""
        ...

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """The candidates' losses but for `error`; may be inf for those sure to lie above a limit."""
        ...

    def exact(self, member: int) -> float:
        """The candidate's loss in float64; it does not depend on what else was asked."""
        ...

    def add(self, member: int) -> None:
        """Choose a member."""
        ...


class LogLossOfLogits:
    """Log loss of the softmax of mean logits, which is convex in them."""

    def __init__(
        self, logits_MKN: Rows, sizes_M: Floats, label_sums_M: Floats, logs_M: Floats
    ) -> None:
        """Start with nobody.

        Args:
            logits_MKN: none so large that sums of exponentials leave float32, or products of eight
                of them float64.
            sizes_M: mean over clips of the largest absolute logit.
            label_sums_M: sum of the labels' logits.
            logs_M: what `kernels.logs_of_sums` gives of each alone.
        """
        n_members, n_classes, self._n = logits_MKN.shape
        self._logits_MKN, self._logs_of_single_M = logits_MKN, logs_M
        self._label_sums_M, self._label_sum = label_sums_M, 0.0
        self._sum_KN = np.zeros((n_classes, self._n))
        self._n_chosen = 0
        self._tangents = Tangents(n_members)
        self._size = float(sizes_M.max())
        # A mean logit carries five roundings (its sum's, the scale's twice, the product's, a
        # float64 candidate's own), a sum of exponentials one a class and four for the power.
        self.error = _EPSILON * (5 * self._size + n_classes + 4)
        # The chosen members' part of the exponents in `approximate`.
        self._base_KN = np.empty((n_classes, self._n), np.float32)
        # Softmax of the mean that was computed last, whose it was, and what its chunks gave.
        self._soft_KN = np.empty((n_classes, self._n), np.float32)
        self._last_M = (logs_M - label_sums_M) / self._n
        self._soft_of = -1
        self._logs_J, self._agreements_J = np.empty(0), np.empty(0)
        # At least the chunks' logs, from each on to the end; of the next candidates.
        self._rests_MJ = np.empty((n_members, kernels.n_chunks(self._n)))
        self._rests_MJ[:] = -np.inf

    def bounds(self) -> Floats:
        """From the tangents so far; see `Objective`."""
        return self._tangents.bounds(self._n_chosen + 1)

    def expected(self) -> Floats:
        """See `Objective`."""
        return self._last_M

    def sharpen(self, candidates: Integers) -> None:
        """Touch the loss at the mean of the chosen.

        Its gradient is softmax(mean) - onehot(label), over N.
        """
        if not self._n_chosen:
            return
        products_M = np.full(len(self._logits_MKN), np.nan)
        products_CJ = kernels.products(self._logits_MKN, candidates, self._soft_KN)
        # What rounding may have added to the products, and to the labels' sums.
        doubt = (_PRODUCT_ROUNDINGS + 2) * _EPSILON * self._size
        agreements = products_CJ.sum(axis=1) - self._label_sums_M[candidates]
        products_M[candidates] = agreements / self._n - doubt
        # The softmax and float64 labels were rounded: that tilts the tangent about the mean.
        tilt = 4 * _EPSILON * self._size
        height = (float(self._agreements_J.sum()) - self._label_sum) / self._n
        loss = (float(self._logs_J.sum()) - self._label_sum / self._n_chosen) / self._n
        self._tangents.touch(loss - height / self._n_chosen - tilt, height, products_M)
        logs_CJ = self._logs_J - self._agreements_J / self._n_chosen
        logs_CJ = logs_CJ + (self._agreements_J + products_CJ) / (self._n_chosen + 1)
        rests_CJ = logs_CJ[:, ::-1].cumsum(axis=1)[:, ::-1]
        self._rests_MJ[candidates] = rests_CJ - self._n * (doubt + tilt)

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """In float32; see `Objective`."""
        scale = self._scale()
        # Labels take the scale that the exponents took.
        labels = (self._label_sum + self._label_sums_M[candidates]) * (scale * math.log(2))
        logs = (
            kernels.logs_of_sums(
                self._logits_MKN,
                candidates,
                self._base_KN,
                np.float32(scale),
                self._rests_MJ[candidates],
                self._n * (limit + self.error) + labels,
            )
            if self._n_chosen
            else self._logs_of_single_M[candidates]
        )
        losses = (logs - labels) / self._n
        self._last_M[candidates] = losses
        return losses

    def exact(self, member: int) -> float:
        """And the softmax of that mean, for `sharpen`; see `Objective`."""
        n_members = self._n_chosen + 1
        self._logs_J, self._agreements_J = kernels.logs_and_softmax(
            self._logits_MKN[member], self._sum_KN, n_members, self._soft_KN
        )
        self._soft_of = member
        label_sum = self._label_sum + float(self._label_sums_M[member])
        return (float(self._logs_J.sum()) - label_sum / n_members) / self._n

    def add(self, member: int) -> None:
        """See `Objective`."""
        if self._soft_of != member:
            self.exact(member)
        self._n_chosen += 1
        kernels.choose(self._logits_MKN[member], self._sum_KN, self._scale(), self._base_KN)
        self._soft_of = -1
        self._label_sum += float(self._label_sums_M[member])
        self._rests_MJ[:] = -np.inf
        self._tangents.add(member)

    def _scale(self) -> float:
        """Of the next candidates' exponents, as float32 has it."""
        return float(np.float32(math.log2(math.e) / (self._n_chosen + 1)))


class LogLossOfProbabilities:
    """-log of the label's mean probability, which is convex in it."""

    def __init__(self, logits_MKN: Rows, labels_N: Labels, sizes_M: Floats, *, small: bool) -> None:
        """Start with nobody.

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
        # An exponent, at most twice the largest logit, carries three roundings, in the label's
        # power and in the sum, which has one a class; powers and the division five.
        self.error = _EPSILON * (12 * float(sizes_M.max()) + n_classes + 5)

    def bounds(self) -> Floats:
        """From the tangents so far; see `Objective`."""
        return self._tangents.bounds(self._n_chosen + 1)

    def expected(self) -> Floats:
        """See `Objective`."""
        return self._last_M

    def sharpen(self, candidates: Integers) -> None:
        """Touch the loss at about the mean of the chosen.

        For any w > 0, -log p >= 1 + log w - w p, and the two are equal where p = 1/w: rounding w
        moves the place where they touch, and leaves the bound one.
        """
        if not self._n_chosen or len(candidates) < _WORTH_A_TANGENT:
            return
        logs, heights = probability_kernels.tangent(self._sum_N, self._n_chosen, self._slopes_N)
        rows_M1N, slopes_1N = self._likelihoods_MN[:, None], self._slopes_N[None]
        products = kernels.products(rows_M1N, candidates, slopes_1N).sum(axis=1) / self._n
        products *= 1 + _EPSILON * _PRODUCT_ROUNDINGS
        products_M = np.full(len(self._likelihoods_MN), np.nan)
        products_M[candidates] = -products
        # Members' likelihoods in float32 stand for the precise ones, now and when they are added.
        constant = 1 + logs / self._n - 2 * self.error
        self._tangents.touch(constant, -heights / self._n, products_M)

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """From likelihoods in float32; see `Objective`."""
        logs = probability_kernels.logs(self._likelihoods_MN, candidates, self._sum_N)
        self._last_M[candidates] = self._mean_loss(logs)
        return self._last_M[candidates]

    def exact(self, member: int) -> float:
        """From likelihoods in float64; see `Objective`."""
        row_1N, only = self._precisely(member)[None], np.zeros(1, np.int64)
        return float(self._mean_loss(probability_kernels.logs(row_1N, only, self._sum_N))[0])

    def add(self, member: int) -> None:
        """See `Objective`."""
        self._sum_N += self._precisely(member)
        self._n_chosen += 1
        self._tangents.add(member)

    def _mean_loss(self, logs: Floats) -> Floats:
        return math.log(self._n_chosen + 1) - logs / self._n

    def _precisely(self, member: int) -> Floats:
        """The member's likelihoods in float64, kept for the few that come so far."""
        if member not in self._precise:
            logits_KN = self._logits_MKN[member]
            self._precise[member] = probability_kernels.of_labels(logits_KN, self._labels_N)
        return self._precise[member]


class EveryCandidate:
    """A loss of which nothing is known but how to compute it."""

    error = 0.0

    def __init__(
        self,
        logits_MKN: Rows,
        labels_N: Labels,
        *,
        space: Literal["logits", "probabilities"],
        metric: Literal["log_loss", "macro_accuracy", "brier"],
    ) -> None:
        """Start with nobody."""
        self._logits_MKN, self._labels_N = logits_MKN, labels_N
        self._space, self._metric = space, metric
        n_members, n_classes, self._n = logits_MKN.shape
        self._unknown_M = np.full(n_members, -np.inf)
        self._sum_KN = np.zeros((n_classes, self._n))
        self._n_chosen = 0
        self._clips_K = np.bincount(labels_N, minlength=n_classes)

    def bounds(self) -> Floats:
        """Nothing; see `Objective`."""
        return self._unknown_M

    def expected(self) -> Floats:
        """Nothing; see `Objective`."""
        return self._unknown_M

    def sharpen(self, candidates: Integers) -> None:
        """Does nothing; see `Objective`."""

    def approximate(self, candidates: Integers, limit: float) -> Floats:
        """Exactly; see `Objective`."""
        return np.array([self.exact(int(member)) for member in candidates])

    def exact(self, member: int) -> float:
        """In float64; see `Objective`."""
        numbers_KN, n_members = self._numbers(member), self._n_chosen + 1
        if self._metric == "macro_accuracy":
            hits_K = score_kernels.hits(numbers_KN, self._sum_KN, self._labels_N)
            occurs_K = self._clips_K > 0
            return 1 - float((hits_K[occurs_K] / self._clips_K[occurs_K]).mean())
        arguments = (numbers_KN, self._sum_KN, n_members, self._labels_N)
        if self._metric == "brier":
            return score_kernels.brier(*arguments, self._space == "probabilities") / self._n
        return kernels.log_loss(*arguments) / self._n

    def add(self, member: int) -> None:
        """See `Objective`."""
        kernels.add_to(self._sum_KN, self._numbers(member))
        self._n_chosen += 1

    def _numbers(self, member: int) -> Rows:
        """What is averaged."""
        logits_KN = self._logits_MKN[member]
        return logits_KN if self._space == "logits" else score_kernels.probabilities(logits_KN)
