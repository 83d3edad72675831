"""What logits say of clips, for many clips at once (N clips of a corpus, R of their rows, K classes, B of a block)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from logit_store.logits_file import widen

_NUMBERS = 81_920
"""Logits at a time: so many, in float64, stay in the processor's cache, and no other memory is asked of the
system, which would take longer than the exponentials."""


def judge_clips(
    logits_KN: NDArray[np.float16], rows_R: NDArray[np.integer], labels_R: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return for some rows whether the clip was recognised, and its log loss in nats, [R].

    As `metrics.accuracy` and `metrics.log_loss` judge, one class of a block of clips after the other: seven
    times as fast, because each number is read and written in the cache.

    Args:
        logits_KN: finite.
        rows_R: of the clips.
        labels_R: their classes.
    """
    n_classes, n_block = len(logits_KN), max(1, _NUMBERS // len(logits_KN))
    hit_R, loss_R = np.empty(len(rows_R), np.bool_), np.empty(len(rows_R))
    place_B, count = np.arange(n_block), np.min_scalar_type(n_classes)
    n_numbers = n_classes * n_block
    singles, doubles = np.empty(n_numbers, np.float32), np.empty(n_numbers)
    are_largest = np.empty(n_numbers, np.bool_)
    for begin in range(0, len(rows_R), n_block):
        here = slice(begin, begin + n_block)
        labels_B = labels_R[here]
        n = len(labels_B)
        # The beginnings of the arrays, so that the clips of the last block are adjacent too.
        single_KB = singles[: n_classes * n].reshape(n_classes, n)
        shifted_KB = doubles[: n_classes * n].reshape(n_classes, n)
        is_largest_KB = are_largest[: n_classes * n].reshape(n_classes, n)
        widen(single_KB, np.take(logits_KN, rows_R[here], axis=1))
        largest_B = single_KB.max(axis=0)
        np.equal(single_KB, largest_B, out=is_largest_KB)
        # In float64 the difference of two float16 values is exact.
        shifted_KB[...] = single_KB
        shifted_KB -= largest_B.astype(np.float64)
        of_label_B = labels_B * n + place_B[:n]
        true_B = shifted_KB.ravel().take(of_label_B)
        hit_B = is_largest_KB.ravel().take(of_label_B)
        # Among equal logits the first class wins.
        n_largest_B = np.add.reduce(is_largest_KB.view(np.uint8), axis=0, dtype=count)
        tied = np.flatnonzero(n_largest_B > 1)
        hit_B[tied] = is_largest_KB[:, tied].argmax(axis=0) == labels_B[tied]
        hit_R[here] = hit_B
        np.exp(shifted_KB, out=shifted_KB)
        np.subtract(np.log(shifted_KB.sum(axis=0)), true_B, out=loss_R[here])
    return hit_R, loss_R


def predict_classes(
    columns: Sequence[NDArray[np.float16]], rows_R: NDArray[np.integer]
) -> NDArray[np.int32]:
    """Return the class of the largest logit of some clips, [R]; among equal logits the first one.

    Args:
        columns: the finite logits of each class, [N].
        rows_R: of the clips.
    """
    largest_R: NDArray[np.int32] | None = None
    for k, logits_N in enumerate(columns):
        bits_R = logits_N.view(np.int16).take(rows_R)
        # Integers in the order of the logits, in which 0 and -0 are equal; and below, in the lower half, in
        # that of the classes from the last to the first: so one maximum finds both, without a branch.
        sign_R = bits_R >> 15
        ordered_R = ((bits_R & 0x7FFF ^ sign_R) - sign_R).astype(np.int32)
        ordered_R <<= 16
        ordered_R |= len(columns) - 1 - k
        largest_R = (
            ordered_R if largest_R is None else np.maximum(largest_R, ordered_R, out=largest_R)
        )
    if largest_R is None:
        raise ValueError("no column of logits, expected one for each class")
    return len(columns) - 1 - (largest_R & 0xFFFF)
