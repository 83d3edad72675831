"""From the logits of one window after another to the class that is on: smoothing with hysteresis.

Needs numpy only. `students/c/smoothing.h` does the same on a microcontroller, bit for bit: both take single
precision, the same order of operations, and an exponential function of their own, because those of numpy and
of C libraries differ in the last bits.

The scheme has two parts, both the simplest that are widely used:

- Probabilities are smoothed by an exponential moving average, which begins with the first window (NIST/SEMATECH
  e-Handbook of Statistical Methods, section 6.4.3.1). It keeps one number a class, where a moving mean keeps
  all windows.
- A class begins where its smoothed probability reaches an upper threshold, and ends where it falls below a
  lower one (hysteresis; Canny, A Computational Approach to Edge Detection, 1986, section IX): one threshold
  would turn an event that hovers about it into many. Classes of a softmax exclude each other, so one that
  begins and is likelier takes the place of the one that is on.

Dimensions: K classes.
"""

import math

import numpy as np

NONE_OF_THEM = -1
"""The class that is on where no class is."""
BEGINS_AT = 0.5
"""Default of the upper threshold: likelier than all other classes together."""
END_RATIO = 0.7
"""The lower threshold as a share of the upper: 0.35 of 0.5, the usual pair in the detection of speech (Silero VAD)."""
SMOOTHING_S = 0.5
"""Time constant of the average: after it, a change of the probabilities has arrived to 63 %. A longer one has fewer
false alarms, and misses more short events. OURS."""

# exp(x) = 2^n * exp(r), where n is x / ln 2 rounded and |r| <= ln(2) / 2. The first part of ln 2 has few
# digits, so that its products with n are exact. The series of exp ends at r^6 / 720, for single precision.
_LEAST = np.float32(-87)
"""Below it, a result would be no normal number of single precision."""
_PER_LN_2 = np.float32(1.44269504)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_SERIES = tuple(np.float32(1 / math.factorial(power)) for power in (6, 5, 4, 3, 2, 1, 0))


class Smoother:
    """The state between windows: smoothed probabilities, and which class is on.

    Args:
        begins_at_K: upper threshold of each class, a probability above 0.
        ends_at_K: lower threshold of each class, no higher than the upper.
        share: how much a new window counts, above 0 and at most 1, as `compute_share` returns it.
    """

    def __init__(self, begins_at_K: np.ndarray, ends_at_K: np.ndarray, share: float) -> None:
        self.begins_at_K = begins_at_K.astype(np.float32)
        self.ends_at_K = ends_at_K.astype(np.float32)
        self.share = np.float32(share)
        self.probabilities_K: np.ndarray = np.zeros_like(self.begins_at_K)
        """Smoothed, float32 [K]; zeros before the first window."""
        self.on = NONE_OF_THEM
        """Index of the class that is on."""
        self._has_begun = False

    def push(self, logits_K: np.ndarray) -> int:
        """Take the logits of the next window, [K]; return the class that is on, or NONE_OF_THEM."""
        now_K, before_K = compute_probabilities(logits_K), self.probabilities_K
        self.probabilities_K = (
            before_K + self.share * (now_K - before_K) if self._has_begun else now_K
        )
        self._has_begun = True
        self.on = self._decide(self.probabilities_K)
        return self.on

    def _decide(self, smoothed_K: np.ndarray) -> int:
        if self.on != NONE_OF_THEM and smoothed_K[self.on] < self.ends_at_K[self.on]:
            self.on = NONE_OF_THEM
        reached_K = np.where(smoothed_K >= self.begins_at_K, smoothed_K, np.float32(-1))
        best = int(reached_K.argmax())
        if reached_K[best] < 0:
            return self.on
        if self.on != NONE_OF_THEM and smoothed_K[best] <= smoothed_K[self.on]:
            return self.on
        return best


def compute_share(hop_s: float, smoothing_s: float = SMOOTHING_S) -> float:
    """Return how much a new window counts, if one comes every `hop_s` seconds.

    A time constant in seconds makes the same of the same sound at every hop, but for its steps.
    """
    return -math.expm1(-hop_s / smoothing_s)


def compute_probabilities(logits_K: np.ndarray) -> np.ndarray:
    """Return the softmax of logits [K] in single precision, with the operations of `smoothing.h`."""
    logits_K = logits_K.astype(np.float32)
    exponentials_K = _exponentiate(logits_K - logits_K.max())
    # cumsum adds one after the other, as a loop does; sum adds in pairs.
    return exponentials_K / exponentials_K.cumsum(dtype=np.float32)[-1]


def _exponentiate(x_K: np.ndarray) -> np.ndarray:
    x_K = np.maximum(x_K, _LEAST)
    n_K = np.rint(x_K * _PER_LN_2)
    r_K = (x_K - n_K * _LN_2_HIGH) - n_K * _LN_2_LOW
    series_K = np.full_like(r_K, _SERIES[0])
    for factor in _SERIES[1:]:
        series_K = series_K * r_K + factor
    return np.ldexp(series_K, n_K.astype(np.int32))
