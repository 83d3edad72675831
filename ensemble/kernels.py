"""Log loss of mean logits, the inner loop of selection (M members, N clips, K classes).

B clips in a block, L lanes of a product, J chunks, C candidates.

Logits are laid out as [M, K, N], clips side by side. Kernels take them flat, as `Flat`, and the place
where a member's begin: a loop over the clips of a class becomes a few vector instructions.

What keeps LLVM from using vectors, or takes it long to compile, is avoided: loops over many arrays, as it
would have to check at run time that none overlap; loads behind a condition; Python's error at a division
by 0; slices, new arrays and numpy's functions, each of which is compiled again in each kernel. So arrays
that are filled, or only worked in, are arguments.
"""

import numpy as np
from numpy.typing import NDArray

from disk.numba_cache import compiled
from ensemble.arithmetic import (
    LANES,
    LOG2_E,
    Singles,
    constants,
    constants_single,
    double_at,
    exp2,
    exp2_single,
    exponent_of,
    log_of_lanes,
    magnitude,
    mantissa_of,
    single_at,
)
from ensemble.blocks import CLIPS_PER_BLOCK, Rows
from metrics.scores import Floats, Integers

CLIPS_PER_CHUNK = 8 * CLIPS_PER_BLOCK
CANDIDATES_AT_ONCE = 4
"""Candidates of `products` that share a read of the weights."""
_CLIPS_PER_SUM = CLIPS_PER_BLOCK // 2
"""Numbers that `products` adds in float32."""

Flat = Rows
"""Logits of all members, one after another, [M * K * N]; float16 as its bits."""
Labels = NDArray[np.int32]


class Workspace:
    """Arrays that kernels work in."""

    def __init__(self) -> None:
        """Make them."""
        self.singles_B = np.empty(CLIPS_PER_BLOCK, np.float32)
        self.doubles_B = np.empty(CLIPS_PER_BLOCK)
        self.products_L, self.exponents_L = np.empty(LANES), np.empty(LANES, np.int64)


def count_chunks(n: int) -> int:
    """Return the number of chunks of n clips."""
    return -(-n // CLIPS_PER_CHUNK)


@compiled(error_model="numpy", fastmath={"contract"})
def survey(
    logits: Flat,
    place: int,
    n_classes: int,
    labels_N: Labels,
    with_logs: bool,
    work_B: Singles,
    label_sums_B: Floats,
    products_L: Floats,
    exponents_L: Integers,
) -> tuple[np.int32, float, float]:
    """Return what is to be known of a member before it is used.

    Args:
        logits: of all members.
        place: where the member's begin.
        n_classes: K.
        labels_N: true classes.
        with_logs: whether to compute the last result, which takes most of the time.
        work_B: to work in.
        label_sums_B: to work in.
        products_L: to work in.
        exponents_L: to work in.

    Returns:
        The largest absolute logit, as `magnitude` returns it; the sum of the labels' logits; what
        `logs_of_sums` returns for the member alone, if it is small enough for that.
    """
    n, scale, c = len(labels_N), np.float32(LOG2_E), constants_single()
    largest = np.int32(0)
    for b in range(CLIPS_PER_BLOCK):
        label_sums_B[b] = 0
    for lane in range(len(products_L)):
        products_L[lane], exponents_L[lane] = 1, 0
    for start in range(0, n, CLIPS_PER_BLOCK):
        class_B = labels_N[start : start + CLIPS_PER_BLOCK]
        n_inside = len(class_B)
        for b in range(CLIPS_PER_BLOCK):
            work_B[b] = 0 if b < n_inside and with_logs else 1
        for k in range(n_classes):
            row = place + k * n + start
            for b in range(n_inside):
                largest = max(largest, magnitude(single_at(logits, row + b)))
            for b in range(n_inside if with_logs else 0):
                work_B[b] += exp2_single(scale * single_at(logits, row + b), c)
        for b in range(n_inside):
            label_sums_B[b] += double_at(logits, place + class_B[b] * n + start + b)
        _multiply(products_L, exponents_L, work_B)
    label_sum = 0.0
    for b in range(CLIPS_PER_BLOCK):
        label_sum += label_sums_B[b]
    return largest, label_sum, log_of_lanes(products_L, exponents_L)


@compiled(error_model="numpy", fastmath={"contract"})
def logs_of_sums(
    logits: Flat,
    places_C: Integers,
    base: Singles,
    n_classes: int,
    scale: np.float32,
    rests_CJ: Floats,
    limits_C: Floats,
    sum_B: Singles,
    products_L: Floats,
    exponents_L: Integers,
    result_C: Floats,
) -> None:
    """Fill in the sum over clips of ln(sum over classes of 2^(base + scale * logit)) of candidates.

    In float32 except for the logarithms; no exponent may reach +-126 minus the digits of K.

    Args:
        logits: of all members.
        places_C: where the candidates' begin.
        base: as above, [K * N].
        n_classes: K.
        scale: as above.
        rests_CJ: lower bounds of what the chunks from this one on add.
        limits_C: a candidate that is certain to end above its limit is given up; its result is inf.
        sum_B: to work in.
        products_L: to work in.
        exponents_L: to work in.
        result_C: zeros, to be filled.
    """
    n, c = len(base) // n_classes, constants_single()
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(places_C)):
            if result_C[i] + rests_CJ[i, chunk // CLIPS_PER_CHUNK] > limits_C[i]:
                result_C[i] = np.inf
                continue
            for lane in range(len(products_L)):
                products_L[lane], exponents_L[lane] = 1, 0
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), CLIPS_PER_BLOCK):
                n_inside = min(CLIPS_PER_BLOCK, n - start)
                # There are no clips behind the last one; ln 1 is 0.
                for b in range(CLIPS_PER_BLOCK):
                    sum_B[b] = 0 if b < n_inside else 1
                for k in range(n_classes):
                    row, base_row = places_C[i] + k * n + start, k * n + start
                    for b in range(n_inside):
                        logit = single_at(logits, row + b)
                        sum_B[b] += exp2_single(single_at(base, base_row + b) + scale * logit, c)
                _multiply(products_L, exponents_L, sum_B)
            result_C[i] += log_of_lanes(products_L, exponents_L)


@compiled(error_model="numpy", fastmath={"contract"})
def softmax(
    logits: Flat,
    place: int,
    sum_: Floats,
    n_classes: int,
    scale: float,
    soft: Singles,
    total_N: Floats,
    agreement_N: Floats,
    power_B: Floats,
) -> None:
    """Fill in the softmax of the mean of some members and one more, in float64 but for the last step.

    Args:
        logits: of all members.
        place: where the one more member's begin.
        sum_: sum of the other members' logits, [K * N].
        n_classes: K.
        scale: log2(e) over the number of members with the one more.
        soft: the softmax, [K * N].
        total_N: the sum over classes of e^mean.
        agreement_N: the softmax times the sum of all members.
        power_B: to work in.
    """
    n, c = len(total_N), constants()
    for start in range(0, n, CLIPS_PER_BLOCK):
        total_B = total_N[start : start + CLIPS_PER_BLOCK]
        agreement_B = agreement_N[start : start + CLIPS_PER_BLOCK]
        for b in range(len(total_B)):
            total_B[b], agreement_B[b] = 0, 0
        for k in range(n_classes):
            row = k * n + start
            soft_B = soft[row : row + len(total_B)]
            for b in range(len(total_B)):
                logit = double_at(sum_, row + b) + double_at(logits, place + row + b)
                power_B[b] = exp2(logit * scale, c)
            for b in range(len(total_B)):
                total_B[b] += power_B[b]
            for b in range(len(total_B)):
                logit = double_at(sum_, row + b) + double_at(logits, place + row + b)
                agreement_B[b] += power_B[b] * logit
            for b in range(len(soft_B)):
                soft_B[b] = power_B[b]
        for b in range(len(total_B)):
            power_B[b] = 1 / total_B[b]
        for b in range(len(total_B)):
            agreement_B[b] *= power_B[b]
        for k in range(n_classes):
            soft_B = soft[k * n + start : k * n + start + len(total_B)]
            for b in range(len(soft_B)):
                soft_B[b] *= np.float32(power_B[b])


@compiled(error_model="numpy", fastmath={"contract"})
def logs_by_chunk(
    total_N: Floats,
    work_B: Floats,
    products_L: Floats,
    exponents_L: Integers,
    logs_J: Floats,
) -> None:
    """Fill in the logarithm of the product of each chunk's positive numbers.

    Args:
        total_N: the numbers.
        work_B: to work in.
        products_L: to work in.
        exponents_L: to work in.
        logs_J: the result.
    """
    n = len(total_N)
    for chunk in range(len(logs_J)):
        for lane in range(len(products_L)):
            products_L[lane], exponents_L[lane] = 1, 0
        first = chunk * CLIPS_PER_CHUNK
        for start in range(first, min(first + CLIPS_PER_CHUNK, n), CLIPS_PER_BLOCK):
            for b in range(CLIPS_PER_BLOCK):
                work_B[b] = total_N[start + b] if start + b < n else 1.0
            _multiply(products_L, exponents_L, work_B)
        logs_J[chunk] = log_of_lanes(products_L, exponents_L)


@compiled(inline="always")
def _multiply(products_L: Floats, exponents_L: Integers, sum_B: Floats | Singles) -> None:
    """Multiply a block of positive numbers into lanes, and take out their exponents."""
    # One loop with all its FACTORS factors is compiled in less time than one for each.
    for i in range(len(products_L)):
        product = products_L[i] * sum_B[i] * sum_B[i + LANES] * sum_B[i + 2 * LANES]
        product = product * sum_B[i + 3 * LANES] * sum_B[i + 4 * LANES] * sum_B[i + 5 * LANES]
        product = product * sum_B[i + 6 * LANES] * sum_B[i + 7 * LANES]
        exponents_L[i] += exponent_of(product)
        products_L[i] = mantissa_of(product)


@compiled(error_model="numpy", fastmath={"contract"})
def sum_log_loss(logits_KN: Floats, sum_KN: Floats, n_members: int, labels_N: Labels) -> float:
    """Return the log loss, summed over clips, of the mean of some members and one more.

    In float64. The largest logit is subtracted before anything is divided, so none is too large.

    Args:
        logits_KN: logits of the one more member.
        sum_KN: sum of the other members' logits.
        n_members: the number of members with the one more.
        labels_N: true classes.
    """
    n_classes, n = logits_KN.shape
    share, scale, c = 1.0 / n_members, LOG2_E / n_members, constants()
    sums_KB = np.empty((n_classes, CLIPS_PER_BLOCK))
    largest_B, total_B = np.empty(CLIPS_PER_BLOCK), np.empty(CLIPS_PER_BLOCK)
    loss_B = np.zeros(CLIPS_PER_BLOCK)
    products_L, exponents_L = np.ones(LANES), np.zeros(LANES, np.int64)
    for start in range(0, n, CLIPS_PER_BLOCK):
        class_B = labels_N[start : start + CLIPS_PER_BLOCK]
        largest_B[:] = -np.inf
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            base_B, sums_B = sum_KN[k, start : start + CLIPS_PER_BLOCK], sums_KB[k]
            for b in range(len(row_B)):
                sums_B[b] = base_B[b] + row_B[b]
            for b in range(len(row_B)):
                largest_B[b] = max(largest_B[b], sums_B[b])
        total_B[:] = 0
        for k in range(n_classes):
            sums_B = sums_KB[k]
            for b in range(len(class_B)):
                total_B[b] += exp2((sums_B[b] - largest_B[b]) * scale, c)
        total_B[len(class_B) :] = 1
        _multiply(products_L, exponents_L, total_B)
        for b in range(len(class_B)):
            loss_B[b] += (largest_B[b] - sums_KB[class_B[b], b]) * share
    return loss_B.sum() + log_of_lanes(products_L, exponents_L)


@compiled(error_model="numpy", fastmath={"contract"})
def add_member(logits: Flat, place: int, sum_: Floats, scale: float, base: Singles) -> None:
    """Add a member, whose logits begin at a place, to a sum; fill base with the sum times a scale."""
    for i in range(len(sum_)):
        total = sum_[i] + double_at(logits, place + i)
        sum_[i] = total
        base[i] = total * scale


@compiled(error_model="numpy", fastmath={"contract", "reassoc"})
def products(
    rows: Flat, places_C: Integers, weights: Singles, n_classes: int, result_CJ: Floats
) -> None:
    """Fill in the sum over classes and a chunk's clips of weight times number, [C, J].

    In float32 for `_CLIPS_PER_SUM` clips and a class, in float64 beyond. Candidates are read from
    start to end, which is as fast as memory gives; the weights are nearer.

    Args:
        rows: numbers of all members.
        places_C: where the candidates' begin; C is a multiple of CANDIDATES_AT_ONCE.
        weights: [K * N].
        n_classes: K.
        result_CJ: zeros, to be filled.
    """
    n = len(weights) // n_classes
    for i in range(0, len(places_C), CANDIDATES_AT_ONCE):
        for k in range(n_classes):
            first, second = places_C[i] + k * n, places_C[i + 1] + k * n
            third, fourth = places_C[i + 2] + k * n, places_C[i + 3] + k * n
            for start in range(0, n, _CLIPS_PER_SUM):
                zero = np.float32(0)
                sum_1, sum_2, sum_3, sum_4 = zero, zero, zero, zero
                for b in range(start, min(start + _CLIPS_PER_SUM, n)):
                    weight = single_at(weights, k * n + b)
                    sum_1 += weight * single_at(rows, first + b)
                    sum_2 += weight * single_at(rows, second + b)
                    sum_3 += weight * single_at(rows, third + b)
                    sum_4 += weight * single_at(rows, fourth + b)
                chunk = start // CLIPS_PER_CHUNK
                result_CJ[i, chunk] += sum_1
                result_CJ[i + 1, chunk] += sum_2
                result_CJ[i + 2, chunk] += sum_3
                result_CJ[i + 3, chunk] += sum_4
