"""What bags share of the log loss of mean logits: numbers of each clip, and their sums (see `kernels`).

C candidates, N clips, R runs of clips.
"""

import numpy as np

from disk.numba_cache import compiled
from ensemble.arithmetic import Singles, constants_single, exp2_single, single_at
from ensemble.kernels import Flat
from metrics.scores import Floats, Integers


@compiled(error_model="numpy", fastmath={"contract"})
def totals(
    logits: Flat,
    places_C: Integers,
    base: Singles,
    n_classes: int,
    scale: np.float32,
    total_CN: Singles,
) -> None:
    """Fill in, for each clip, the sum over classes whose logarithm `logs_of_sums` sums up.

    Two candidates share each read of the base; their number is even, here and in `agreements`.
    """
    n, c = total_CN.shape[1], constants_single()
    for i in range(0, len(places_C), 2):
        first_N, second_N = total_CN[i], total_CN[i + 1]
        for b in range(n):
            first_N[b], second_N[b] = 0, 0
        for k in range(n_classes):
            row, other_row, base_row = places_C[i] + k * n, places_C[i + 1] + k * n, k * n
            for b in range(n):
                base_logit = single_at(base, base_row + b)
                first_N[b] += exp2_single(base_logit + scale * single_at(logits, row + b), c)
                second_N[b] += exp2_single(base_logit + scale * single_at(logits, other_row + b), c)


@compiled(error_model="numpy", fastmath={"contract"})
def agreements(
    logits: Flat, places_C: Integers, soft: Singles, n_classes: int, agreement_CN: Singles
) -> None:
    """Fill in, for each clip, the sum over classes of the softmax times the candidate's logit."""
    n = agreement_CN.shape[1]
    for i in range(0, len(places_C), 2):
        first_N, second_N = agreement_CN[i], agreement_CN[i + 1]
        for b in range(n):
            first_N[b], second_N[b] = 0, 0
        for k in range(n_classes):
            row, other_row, soft_row = places_C[i] + k * n, places_C[i + 1] + k * n, k * n
            for b in range(n):
                share = single_at(soft, soft_row + b)
                first_N[b] += share * single_at(logits, row + b)
                second_N[b] += share * single_at(logits, other_row + b)


@compiled()
def sum_runs(number_CN: Singles, ends_R: Integers, result_CR: Floats) -> None:
    """Fill in the sums of neighbouring numbers, in float64; `ends_R` are the places behind each run."""
    for i in range(len(result_CR)):
        n = 0
        for run in range(len(ends_R)):
            total = 0.0
            while n < ends_R[run]:
                total += number_CN[i, n]
                n += 1
            result_CR[i, run] = total
