"""Log loss of mean logits, the inner loop of selection (M members, N clips, K classes).

J chunks of clips, C candidates.

Logits are laid out as [M, K, N], clips side by side, at least SINGLES_AT_ONCE of them. Kernels take them flat, as `Flat`,
and the place where a member's begin.

What takes LLVM or numba long to compile is avoided: loops over single numbers (see `vectors`), Python's error
at a division by 0, slices, new arrays and numpy's functions, each of which is compiled again in each kernel. So
arrays that are filled are arguments.
"""

import math

import numpy as np
from numpy.typing import NDArray

from disk.numba_cache import compiled
from ensemble.arithmetic import (
    FACTORS,
    LANES,
    LOG2_E,
    Singles,
    constants,
    constants_single,
    exp2,
    exp2_single,
    exponent_of,
    log_of_lanes,
    mantissa_of,
)
from ensemble.blocks import CLIPS_PER_BLOCK, Rows
from ensemble.vectors import (
    DOUBLES_AT_ONCE,
    SINGLES_AT_ONCE,
    add_lanes,
    fetch_ahead,
    load_doubles,
    load_singles,
    multiply_lanes,
    repeat,
    replace_first,
    store,
    sum_lanes,
)
from metrics.scores import Floats, Integers

CLIPS_PER_CHUNK = 8 * CLIPS_PER_BLOCK
CANDIDATES_AT_ONCE = 4
"""Candidates of `products` that share a read of the weights."""

Flat = Rows
"""Logits of all members, one after another, [M * K * N]; float16 as its bits."""
Labels = NDArray[np.int32]


def count_chunks(n: int) -> int:
    """Return the number of chunks of n clips."""
    return -(-n // CLIPS_PER_CHUNK)


def fill_block(n: int) -> int:
    """Return the number of clips that fill their last block."""
    return -(-n // CLIPS_PER_BLOCK) * CLIPS_PER_BLOCK


def sum_taken(rows_MC: Rows, places_N: Integers) -> Floats:
    """Return the sums of some numbers of each row in float64, dealt to a block's places that are added in order."""
    taken = np.zeros(fill_block(len(places_N)), rows_MC.dtype)
    some_N, sums_M = taken[: len(places_N)], np.empty(len(rows_MC))
    for m in range(len(rows_MC)):
        np.take(rows_MC[m], places_N, out=some_N, mode="clip")
        sums_M[m] = _sum_blocks(taken)
    return sums_M


@compiled(error_model="numpy")
def _sum_blocks(numbers: Flat) -> float:
    total = 0.0
    for place in range(0, CLIPS_PER_BLOCK, DOUBLES_AT_ONCE):
        sums = repeat(0.0)
        for at in range(place, len(numbers), CLIPS_PER_BLOCK):
            sums = sums + load_doubles(numbers, at)
        total = add_lanes(total, sums)
    return total


@compiled(error_model="numpy", fastmath={"contract"})
def logs_of_sums(
    logits: Flat,
    places_C: Integers,
    base: Singles,
    n_classes: int,
    scale: np.float32,
    rests_CJ: Floats,
    limits_C: Floats,
    result_C: Floats,
) -> None:
    """Fill in the sum over clips of ln(sum over classes of 2^(base + scale * logit)) of candidates.

    In float32 except for the logarithms; no exponent may reach +-125 minus the digits of K.

    Args:
        logits: of all members.
        places_C: where the candidates' begin.
        base: as above, [K * N].
        n_classes: K.
        scale: as above.
        rests_CJ: lower bounds of what the chunks from this one on add.
        limits_C: a candidate that is certain to end above its limit is given up; its result is inf.
        result_C: zeros, to be filled.
    """
    n, c, factor = len(base) // n_classes, constants_single(), repeat(scale)
    zero, one = repeat(np.float32(0)), repeat(np.float32(1))
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(places_C)):
            if result_C[i] + rests_CJ[i, chunk // CLIPS_PER_CHUNK] > limits_C[i]:
                result_C[i] = np.inf
                continue
            # The logarithm of a product of many sums: its exponents are taken out after each factor.
            product, exponents = one, exponent_of(one)
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), SINGLES_AT_ONCE):
                first = min(start, n - SINGLES_AT_ONCE)
                total = zero
                for k in range(n_classes):
                    at = k * n + first
                    fetch_ahead(logits, places_C[i] + at)
                    logit = load_singles(logits, places_C[i] + at)
                    total = total + exp2_single(load_singles(base, at) + factor * logit, c)
                product = product * replace_first(total, start - first, one)
                exponents = exponents + exponent_of(product)
                product = mantissa_of(product)
            exponent = sum_lanes(exponents)
            result_C[i] += math.log(multiply_lanes(1.0, product)) + exponent * math.log(2.0)


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
) -> None:
    """Fill in the softmax of the mean of some members and one more, in float64 but for the last step.

    Args:
        logits: of all members.
        place: where the one more member's begin.
        sum_: sum of the other members' logits, [K * N].
        n_classes: K.
        scale: log2(e) over the number of members with the one more.
        soft: the softmax, [K * N].
        total_N: the sum over classes of e^mean; more numbers may follow, which stay.
        agreement_N: the softmax times the sum of all members.
    """
    n, c, factor = len(sum_) // n_classes, constants(), repeat(scale)
    zero, one = repeat(0.0), repeat(1.0)
    for start in range(0, n, DOUBLES_AT_ONCE):
        first = min(start, n - DOUBLES_AT_ONCE)
        total, agreement = zero, zero
        for k in range(n_classes):
            at = k * n + first
            fetch_ahead(sum_, at)
            fetch_ahead(logits, place + at)
            logit = load_doubles(sum_, at) + load_doubles(logits, place + at)
            power = exp2(logit * factor, c)
            total = total + power
            agreement = agreement + power * logit
            store(soft, at, power)
        share = one / total
        store(total_N, first, total)
        store(agreement_N, first, agreement * share)
        for k in range(n_classes):
            at = k * n + first
            store(soft, at, load_doubles(soft, at) * share)


@compiled(error_model="numpy", fastmath={"contract"})
def logs_by_chunk(total_N: Floats, logs_J: Floats) -> None:
    """Fill in the logarithm of the product of each chunk's positive numbers.

    Args:
        total_N: the numbers; ones fill the last block.
        logs_J: the result.
    """
    one = repeat(1.0)
    for chunk in range(len(logs_J)):
        begin = chunk * CLIPS_PER_CHUNK
        end = min(begin + CLIPS_PER_CHUNK, len(total_N))
        product, exponent = 1.0, 0
        for place in range(0, LANES, DOUBLES_AT_ONCE):
            products, exponents = one, exponent_of(one)
            for block in range(begin, end, CLIPS_PER_BLOCK):
                for i in range(FACTORS):
                    at = block + i * LANES + place
                    products = products * load_doubles(total_N, at)
                exponents = exponents + exponent_of(products)
                products = mantissa_of(products)
            product = multiply_lanes(product, products)
            exponent += sum_lanes(exponents)
        logs_J[chunk] = math.log(product) + exponent * math.log(2.0)


@compiled(inline="always")
def _multiply(products_L: Floats, exponents_L: Integers, sum_B: Floats) -> None:
    """Multiply a block of positive numbers into lanes, and take out their exponents."""
    # One loop with all its FACTORS factors is compiled in less time than one for each.
    for i in range(len(products_L)):
        product = products_L[i] * sum_B[i] * sum_B[i + LANES] * sum_B[i + 2 * LANES]
        product = product * sum_B[i + 3 * LANES] * sum_B[i + 4 * LANES]
        product = product * sum_B[i + 5 * LANES]
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
def add_member(
    logits: Flat, place: int, before: Floats, scale: float, after: Floats, base: Singles
) -> None:
    """Fill in a sum with a member, whose logits begin at a place; fill base with it times a scale.

    Args:
        logits: of all members.
        place: where the member's begin.
        before: the sum without the member.
        scale: of the base.
        after: the sum with the member; it may be the same array.
        base: as above.
    """
    factor = repeat(scale)
    for start in range(0, len(before), DOUBLES_AT_ONCE):
        first = min(start, len(before) - DOUBLES_AT_ONCE)
        total = load_doubles(before, first) + load_doubles(logits, place + first)
        # What the vector before has filled in stays.
        total = replace_first(total, start - first, load_doubles(after, first))
        store(after, first, total)
        store(base, first, total * factor)


@compiled(error_model="numpy", fastmath={"contract"})
def products(
    rows: Flat, places_C: Integers, weights: Singles, n_classes: int, result_CJ: Floats
) -> None:
    """Fill in the sum over classes and a chunk's clips of weight times number, [C, J].

    In float32 within a class and a chunk, in float64 beyond. Candidates are read from start to end, which is as
    fast as memory gives; the weights are nearer.

    Args:
        rows: numbers of all members.
        places_C: where the candidates' begin; C is a multiple of CANDIDATES_AT_ONCE.
        weights: [K * N].
        n_classes: K.
        result_CJ: zeros, to be filled.
    """
    n, zero = len(weights) // n_classes, repeat(np.float32(0))
    last = n - SINGLES_AT_ONCE
    for i in range(0, len(places_C), CANDIDATES_AT_ONCE):
        for k in range(n_classes):
            first, second = places_C[i] + k * n, places_C[i + 1] + k * n
            third, fourth = places_C[i + 2] + k * n, places_C[i + 3] + k * n
            for begin in range(0, n, CLIPS_PER_CHUNK):
                chunk, end = begin // CLIPS_PER_CHUNK, min(begin + CLIPS_PER_CHUNK, n)
                # What does not fill a vector comes first: the end of the last one.
                n_left = (end - begin) % SINGLES_AT_ONCE
                weight = replace_first(
                    load_singles(weights, k * n + last), SINGLES_AT_ONCE - n_left, zero
                )
                sum_1 = weight * load_singles(rows, first + last)
                sum_2 = weight * load_singles(rows, second + last)
                sum_3 = weight * load_singles(rows, third + last)
                sum_4 = weight * load_singles(rows, fourth + last)
                for at in range(begin, end - n_left, SINGLES_AT_ONCE):
                    weight = load_singles(weights, k * n + at)
                    sum_1 = sum_1 + weight * load_singles(rows, first + at)
                    sum_2 = sum_2 + weight * load_singles(rows, second + at)
                    sum_3 = sum_3 + weight * load_singles(rows, third + at)
                    sum_4 = sum_4 + weight * load_singles(rows, fourth + at)
                result_CJ[i, chunk] += sum_lanes(sum_1)
                result_CJ[i + 1, chunk] += sum_lanes(sum_2)
                result_CJ[i + 2, chunk] += sum_lanes(sum_3)
                result_CJ[i + 3, chunk] += sum_lanes(sum_4)
