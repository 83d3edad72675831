"""Another sample rate, in numpy alone, also for sound that is still arriving.

Dimensions: S samples, P phases, W taps of the filter at one phase.
"""

import math

import numpy as np

ZERO_CROSSINGS = 32
"""Of the sinc on each side: with the window below, what is above the band is 90 dB down."""
ROLL_OFF = 0.95
"""Where the band ends, in halves of the lower rate."""
KAISER_BETA = 9.0
OUT_AT_A_TIME = 16_384
"""Samples that come out of one product: their windows are copies, of all together gigabytes for a
recording of minutes."""


class Resampler:
    """Band-limited interpolation, one block after the other.

    A windowed sinc in as many phases as the ratio of the rates has (Smith and Gossett 1984, "A
    flexible sampling-rate conversion method").

    Args:
        from_rate: of what goes in, in Hz.
        to_rate: of what comes out, in Hz.

    Raises:
        ValueError: a rate below 1 Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        if min(from_rate, to_rate) < 1:
            raise ValueError(f"rates {from_rate} and {to_rate} Hz, expected at least 1 Hz")
        common = math.gcd(from_rate, to_rate)
        self._step, self._phases = from_rate // common, to_rate // common
        self._taps_PW = _taps(self._step, self._phases)
        self._reach = self._taps_PW.shape[1] // 2
        self._waiting_S = np.zeros(self._reach, dtype=np.float32)
        self._position = 0  # of the next sample out, in phases, from the first that is waiting

    def feed(self, samples_S: np.ndarray) -> np.ndarray:
        """What the filter can say after so much more sound, float32."""
        self._waiting_S = np.concatenate([self._waiting_S, samples_S.astype(np.float32)])
        # Positions are counted from the first sample that the filter still reaches back to.
        usable = len(self._waiting_S) - 2 * self._reach
        n_out = max(0, -(-(usable * self._phases - self._position) // self._step))
        if n_out == 0:
            return np.empty(0, dtype=np.float32)
        at = self._position + self._step * np.arange(n_out)
        whole, phase = np.divmod(at, self._phases)
        windows = np.lib.stride_tricks.sliding_window_view(self._waiting_S, self._taps_PW.shape[1])
        result_S = np.empty(n_out, dtype=np.float32)
        for start in range(0, n_out, OUT_AT_A_TIME):
            part = slice(start, start + OUT_AT_A_TIME)
            np.einsum(
                "sw,sw->s", windows[whole[part]], self._taps_PW[phase[part]], out=result_S[part]
            )
        self._position += self._step * n_out
        passed, self._position = divmod(self._position, self._phases)
        self._waiting_S = self._waiting_S[passed:]
        return result_S

    def finish(self) -> np.ndarray:
        """What is left when silence follows, float32."""
        return self.feed(np.zeros(self._reach, dtype=np.float32))


def resample(samples_S: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """All of a sound at another rate, float32; as it was if the rates are equal."""
    if from_rate == to_rate:
        return samples_S.astype(np.float32, copy=False)
    resampler = Resampler(from_rate, to_rate)
    return np.concatenate([resampler.feed(samples_S), resampler.finish()])


def _taps(step: int, phases: int) -> np.ndarray:
    """The filter [P, W] around a sample: a row for each fraction of a sample."""
    # A lower rate out needs a narrower band, and so a longer filter.
    band = ROLL_OFF * min(1.0, phases / step)
    reach = math.ceil(ZERO_CROSSINGS / band)
    fractions_P1 = np.arange(phases)[:, None] / phases
    distance_PW = np.arange(-reach, reach + 1) - fractions_P1
    inside = np.clip(1 - (distance_PW / (reach + 1)) ** 2, 0, None)
    window_PW = np.i0(KAISER_BETA * np.sqrt(inside)) / np.i0(KAISER_BETA)
    return (band * np.sinc(band * distance_PW) * window_PW).astype(np.float32)
