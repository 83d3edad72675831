"""Log loss of mean logits, the inner loop of selection (M members, N clips, K classes).

B clips in a block, L lanes of a product, J chunks.

Logits are laid out as [K, N], clips side by side, and processed a block of B clips at a time: a
loop over b becomes a few vector instructions, and the numbers of a block stay in the caches next to
the core. Members take turns after each chunk, whose sums stay in the second-level cache, and
prefetch the next block while they compute.

The code avoids what keeps LLVM from using vectors: loops over many arrays, as it would have to
check at run time that none overlap; loads behind a condition; Python's error at a division by 0.
"""

import numpy as np
from numpy.typing import NDArray

from ensemble.arithmetic import (
    LANES,
    LOG2_E,
    Singles,
    as_double,
    as_single,
    constants,
    constants_single,
    exp2,
    exp2_single,
    larger_magnitude,
    log_of_lanes,
    prefetch,
    take_exponents,
)
from ensemble.blocks import (
    CLIPS_PER_BLOCK,
    Rows,
)
from ensemble.numba_cache import compiled
from metrics.scores import Floats, Integers

CLIPS_PER_CHUNK = 8 * CLIPS_PER_BLOCK

Labels = NDArray[np.int32]
Magnitudes = NDArray[np.signedinteger]


@compiled(inline="always")
def count_chunks(n: int) -> int:
    """Return the number of chunks of n clips."""
    return -(-n // CLIPS_PER_CHUNK)


@compiled(error_model="numpy", fastmath={"contract"})
def survey(
    logits_KN: Rows, magnitudes_KN: Magnitudes, labels_N: Labels, with_logs: bool
) -> tuple[Magnitudes, float, float, float]:
    """Return what is to be known of a member before it is used.

    Args:
        logits_KN: logits of the member.
        magnitudes_KN: the same memory as signed integers. Without the sign bit, they have the order
            of the absolute logits, and NaN is above infinity.
        labels_N: true classes.
        with_logs: whether to compute the last result, which takes most of the time.

    Returns:
        Magnitudes, the largest among them; the mean over clips of the largest absolute logit; the
        sum of the labels' logits; what `logs_of_sums` returns for the member alone, if it is small
        enough for that.
    """
    n_classes, n = logits_KN.shape
    scale, c = np.float32(LOG2_E), constants_single()
    size_B = np.empty(CLIPS_PER_BLOCK, magnitudes_KN.dtype)
    largest_B, label_B = np.zeros_like(size_B), np.zeros(CLIPS_PER_BLOCK, logits_KN.dtype)
    labels_B, sizes_B = np.zeros(CLIPS_PER_BLOCK), np.zeros(CLIPS_PER_BLOCK)
    sum_B = np.empty(CLIPS_PER_BLOCK, np.float32)
    products_L, exponents_L = np.ones(LANES), np.zeros(LANES, np.int64)
    for start in range(0, n, CLIPS_PER_BLOCK):
        class_B = labels_N[start : start + CLIPS_PER_BLOCK]
        size_B[:] = 0
        sum_B[:] = 0
        for k in range(n_classes):
            magnitude_B = magnitudes_KN[k, start : start + CLIPS_PER_BLOCK]
            for b in range(len(magnitude_B)):
                size_B[b] = larger_magnitude(size_B[b], magnitude_B[b])
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            prefetch(logits_KN[k, start + 2 * CLIPS_PER_BLOCK : start + 3 * CLIPS_PER_BLOCK])
            for b in range(len(class_B)):
                logit, other = row_B[b], label_B[b]
                label_B[b] = logit if class_B[b] == k else other
            for b in range(len(row_B) if with_logs else 0):
                sum_B[b] += exp2_single(scale * as_single(row_B[b]), c)
        for b in range(CLIPS_PER_BLOCK):
            largest_B[b] = larger_magnitude(largest_B[b], size_B[b])
        for b in range(CLIPS_PER_BLOCK):
            sizes_B[b] += as_double(size_B[b])
        for b in range(len(class_B)):
            labels_B[b] += as_double(label_B[b])
        sum_B[n - start if with_logs else 0 :] = 1
        _multiply(products_L, exponents_L, sum_B)
    return largest_B, sizes_B.sum() / n, labels_B.sum(), log_of_lanes(products_L, exponents_L)


@compiled(error_model="numpy", fastmath={"contract"})
def logs_of_sums(
    logits_MKN: Rows,
    candidates: Integers,
    base_KN: Singles,
    scale: np.float32,
    rests_CJ: Floats,
    limits_C: Floats,
) -> Floats:
    """Return the sum over clips of ln(sum over classes of 2^(base + scale * logit)) of candidates.

    In float32 except for the logarithms; no exponent may reach +-126 minus the digits of K.

    Args:
        logits_MKN: logits of all members.
        candidates: C of the members.
        base_KN: as above.
        scale: as above.
        rests_CJ: lower bounds of what the chunks from this one on add.
        limits_C: a candidate that is certain to end above its limit is given up; its result is inf.
    """
    n, c = logits_MKN.shape[2], constants_single()
    result = np.zeros(len(candidates))
    sum_B = np.empty(CLIPS_PER_BLOCK, np.float32)
    products_L = np.empty(LANES)
    exponents_L = np.empty(LANES, np.int64)
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(candidates)):
            if result[i] + rests_CJ[i, chunk // CLIPS_PER_CHUNK] > limits_C[i]:
                result[i] = np.inf
                continue
            products_L[:] = 1
            exponents_L[:] = 0
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), CLIPS_PER_BLOCK):
                next_KN = _next_block(logits_MKN, candidates, i, chunk, start)
                sum_B[:] = 0
                for k in range(logits_MKN.shape[1]):
                    row_B = logits_MKN[candidates[i], k, start : start + CLIPS_PER_BLOCK]
                    base_B = base_KN[k, start : start + CLIPS_PER_BLOCK]
                    prefetch(next_KN[k, :CLIPS_PER_BLOCK])
                    for b in range(len(row_B)):
                        sum_B[b] += exp2_single(base_B[b] + scale * as_single(row_B[b]), c)
                # There are no clips behind the last one; ln 1 is 0.
                sum_B[n - start :] = 1
                _multiply(products_L, exponents_L, sum_B)
            result[i] += log_of_lanes(products_L, exponents_L)
    return result


@compiled(inline="always")
def _next_block(logits_MKN: Rows, candidates: Integers, i: int, chunk: int, start: int) -> Rows:
    """Return the block that is read next: the chunk's next, or the next candidate's first."""
    start += CLIPS_PER_BLOCK
    if start < min(chunk + CLIPS_PER_CHUNK, logits_MKN.shape[2]):
        return logits_MKN[candidates[i], :, start:]
    if i + 1 < len(candidates):
        return logits_MKN[candidates[i + 1], :, chunk:]
    return logits_MKN[candidates[0], :, chunk + CLIPS_PER_CHUNK :]


@compiled(inline="always")
def _multiply(products_L: Floats, exponents_L: Integers, sum_B: Floats | Singles) -> None:
    """Multiply a block of positive numbers into lanes."""
    for b in range(0, CLIPS_PER_BLOCK, LANES):
        for lane in range(LANES):
            products_L[lane] *= sum_B[b + lane]
    take_exponents(products_L, exponents_L)


@compiled(error_model="numpy", fastmath={"contract"})
def logs_and_softmax(
    logits_KN: Floats, sum_KN: Floats, n_members: int, soft_KN: Singles
) -> tuple[Floats, Floats]:
    """Return `logs_of_sums` in float64 for the mean of some members and one more.

    Args:
        logits_KN: logits of the one more member.
        sum_KN: sum of the other members' logits.
        n_members: the number of members with the one more.
        soft_KN: filled with the softmax of the mean.

    Returns:
        Summed over each chunk: the logarithms; the softmax times the sum of all members.
    """
    n_classes, n = logits_KN.shape
    scale, c = LOG2_E / n_members, constants()
    powers_KB = np.empty((n_classes, CLIPS_PER_BLOCK), np.float32)
    total_B, product_B = np.empty(CLIPS_PER_BLOCK), np.empty(CLIPS_PER_BLOCK)
    agreement_B = np.zeros(CLIPS_PER_BLOCK)
    products_L, exponents_L = np.ones(LANES), np.zeros(LANES, np.int64)
    logs_J, agreements_J = np.empty(count_chunks(n)), np.empty(count_chunks(n))
    for start in range(0, n, CLIPS_PER_BLOCK):
        total_B[:] = 0
        product_B[:] = 0
        for k in range(n_classes):
            row_B = logits_KN[k, start : start + CLIPS_PER_BLOCK]
            base_B, powers_B = sum_KN[k, start : start + CLIPS_PER_BLOCK], powers_KB[k]
            for b in range(len(row_B)):
                logit = base_B[b] + row_B[b]
                power = exp2(logit * scale, c)
                total_B[b] += power
                product_B[b] += power * logit
                powers_B[b] = power
        total_B[n - start :] = 1
        _multiply(products_L, exponents_L, total_B)
        for b in range(CLIPS_PER_BLOCK):
            total_B[b] = 1 / total_B[b]
        for b in range(CLIPS_PER_BLOCK):
            agreement_B[b] += product_B[b] * total_B[b]
        for k in range(n_classes):
            soft_B, powers_B = soft_KN[k, start : start + CLIPS_PER_BLOCK], powers_KB[k]
            for b in range(len(soft_B)):
                soft_B[b] = powers_B[b] * np.float32(total_B[b])
        end = start + CLIPS_PER_BLOCK
        if end % CLIPS_PER_CHUNK == 0 or end >= n:
            logs_J[start // CLIPS_PER_CHUNK] = log_of_lanes(products_L, exponents_L)
            agreements_J[start // CLIPS_PER_CHUNK] = agreement_B.sum()
            products_L[:], exponents_L[:], agreement_B[:] = 1, 0, 0
    return logs_J, agreements_J


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
def add_member(logits_KN: Floats, sum_KN: Floats, scale: float, base_KN: Singles) -> None:
    """Add a member to a sum, and fill base_KN with the sum times a scale."""
    for k in range(len(sum_KN)):
        row_N, sum_N, base_N = logits_KN[k], sum_KN[k], base_KN[k]
        for n in range(len(row_N)):
            total = sum_N[n] + row_N[n]
            sum_N[n] = total
            base_N[n] = total * scale


@compiled(error_model="numpy", fastmath={"contract", "reassoc"})
def products(rows_MKN: Rows, candidates: Integers, weights_KN: Singles) -> Floats:
    """Return the sum over classes and a chunk's clips of weight times number, [C, J].

    In float32 within a block and class, in float64 beyond.
    """
    n = rows_MKN.shape[2]
    result_CJ = np.zeros((len(candidates), count_chunks(n)))
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(candidates)):
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), CLIPS_PER_BLOCK):
                next_KN = _next_block(rows_MKN, candidates, i, chunk, start)
                for k in range(rows_MKN.shape[1]):
                    row_B = rows_MKN[candidates[i], k, start : start + CLIPS_PER_BLOCK]
                    weights_B = weights_KN[k, start : start + CLIPS_PER_BLOCK]
                    prefetch(next_KN[k, :CLIPS_PER_BLOCK])
                    part = np.float32(0)
                    for b in range(len(row_B)):
                        part += as_single(row_B[b]) * weights_B[b]
                    result_CJ[i, chunk // CLIPS_PER_CHUNK] += part
    return result_CJ
