"""What logits say of clips, for many clips at once (N clips of a corpus, R of their rows, K classes, B of a block)."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from logit_store.logits_file import widen

_NUMBERS = 81_920
"""Logits at a time: so many, in float64, stay in the processor's cache, and no other memory is asked of the
system, which would take longer than the exponentials."""


def judge_clips(
    logits_KN: NDArray[np.float16], rows_R: NDArray[np.integer] | None, labels_R: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return for some rows whether the clip was recognised, and its log loss in nats, [R].

    As `metrics.accuracy` and `metrics.log_loss` judge, one class of a block of clips after the other: seven
    times as fast, because each number is read and written in the cache.

    Args:
        logits_KN: finite.
        rows_R: of the clips; None: all, in their order.
        labels_R: their classes.
    """
    n_classes, n_block = len(logits_KN), max(1, _NUMBERS // len(logits_KN))
    hit_R, loss_R = np.empty(len(labels_R), np.bool_), np.empty(len(labels_R))
    place_B, count = np.arange(n_block), np.min_scalar_type(n_classes)
    n_numbers = n_classes * n_block
    singles, doubles = np.empty(n_numbers, np.float32), np.empty(n_numbers)
    are_largest = np.empty(n_numbers, np.bool_)
    for begin in range(0, len(labels_R), n_block):
        here = slice(begin, begin + n_block)
        labels_B = labels_R[here]
        n = len(labels_B)
        # The beginnings of the arrays, so that the clips of the last block are adjacent too.
        single_KB = singles[: n_classes * n].reshape(n_classes, n)
        shifted_KB = doubles[: n_classes * n].reshape(n_classes, n)
        is_largest_KB = are_largest[: n_classes * n].reshape(n_classes, n)
        half_KB = logits_KN[:, here] if rows_R is None else logits_KN.take(rows_R[here], axis=1)
        widen(single_KB, half_KB)
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


def predict_classes(columns: Iterable[NDArray[np.float16]]) -> NDArray[np.int16]:
    """Return the class of the largest logit of some clips, [R]; among equal logits the first one.

    Args:
        columns: the finite logits of each class, [R]; at least one class.
    """
    largest_R: NDArray[np.int16] | None = None
    class_R = np.zeros(0, np.int16)
    for k, logits_R in enumerate(columns):
        bits_R = logits_R.view(np.int16)
        # Integers in the order of the logits, in which 0 and -0 are equal: their vectors are shorter.
        sign_R = bits_R >> 15
        ordered_R = bits_R & 0x7FFF
        ordered_R ^= sign_R
        ordered_R -= sign_R
        if largest_R is None:
            largest_R, class_R = ordered_R, np.zeros(len(bits_R), np.int16)
        else:
            # The class is the last that was larger than all before it: so a maximum finds it, without a branch.
            is_larger_R = ordered_R > largest_R
            np.maximum(largest_R, ordered_R, out=largest_R)
            np.maximum(class_R, is_larger_R * np.int16(k), out=class_R)
    if largest_R is None:
        raise ValueError("no column of logits, expected one for each class")
    return class_R
