"""What bags share of the log loss of mean logits: numbers of each clip, and their sums (see `kernels`).

C candidates, N clips, R runs of clips.
"""

import numpy as np

from disk.numba_cache import compiled
from ensemble.arithmetic import Singles, constants_single, exp2_single
from ensemble.kernels import CLIPS_PER_CHUNK, Flat
from ensemble.vectors import SINGLES_AT_ONCE, fetch_ahead, load_singles, repeat, store
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
    """Fill in, for each clip, the sum over classes whose logarithm `logs_of_sums` sums up, [C * N]."""
    n, c, factor = len(base) // n_classes, constants_single(), repeat(scale)
    # A chunk of the base stays in the caches next to the core, here and in `agreements`.
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(places_C)):
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), SINGLES_AT_ONCE):
                first = min(start, n - SINGLES_AT_ONCE)
                total = repeat(np.float32(0))
                for k in range(n_classes):
                    at = k * n + first
                    fetch_ahead(logits, places_C[i] + at)
                    logit = load_singles(logits, places_C[i] + at)
                    total = total + exp2_single(load_singles(base, at) + factor * logit, c)
                store(total_CN, i * n + first, total)


@compiled(error_model="numpy", fastmath={"contract"})
def agreements(
    logits: Flat, places_C: Integers, soft: Singles, n_classes: int, agreement_CN: Singles
) -> None:
    """Fill in, for each clip, the sum over classes of softmax times the candidate's logit, [C * N]."""
    n = len(soft) // n_classes
    for chunk in range(0, n, CLIPS_PER_CHUNK):
        for i in range(len(places_C)):
            for start in range(chunk, min(chunk + CLIPS_PER_CHUNK, n), SINGLES_AT_ONCE):
                first = min(start, n - SINGLES_AT_ONCE)
                total = repeat(np.float32(0))
                for k in range(n_classes):
                    at = k * n + first
                    fetch_ahead(logits, places_C[i] + at)
                    logit = load_singles(logits, places_C[i] + at)
                    total = total + load_singles(soft, at) * logit
                store(agreement_CN, i * n + first, total)


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
