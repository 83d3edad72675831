"""Triangular mel filters as few numbers: what a program needs to weigh each bin with two of them.

Each bin lies between the peaks of two neighbouring triangles: its weight rises to the one and falls from
the other, and both add up to 1. So a bank is the rising weights of the bins, in order, and these are
straight lines (htk) or nearly parabolas (kaldi), piece by piece.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audio.front_ends import FrontEnd

LARGEST_PIECE = 64
"""Bins of a piece at most: its weights are added up in float32, and 7 bits count them."""
LARGEST_ERROR = 3e-6
"""Largest distance of a weight from its parabola: a logarithm is off by no more."""


@dataclass(frozen=True, slots=True)
class MelPiece:
    """Successive bins between the same two peaks; the rising weight of bin n is a parabola of n."""

    bins: int
    first_weight: float
    step: float
    """From the first weight to the second."""
    bend: float
    """By how much each step is larger than the one before; 0 if the weights are on a line."""
    goes_on: bool
    """Whether the next piece lies between the same two peaks."""


@dataclass(frozen=True, eq=False, slots=True)
class MelPieces:
    """A filterbank as pieces, from bin `first_bin` on; F + 1 of them end at a peak or at the upper edge."""

    first_bin: int
    pieces: tuple[MelPiece, ...]
    gains_F: np.ndarray | None
    """Factors of the bands, float32 [F]; None if all are 1."""


def cut_mel_bank(front_end: FrontEnd) -> MelPieces:
    """Return the filterbank that `audio.log_mel.build_mel_bank` returns as a matrix."""
    edges_hz, edges, bins_hz, bins = _place(front_end)
    # Which two edges each bin lies between; those outside of all have no weight.
    before = np.searchsorted(edges, bins, side="right") - 1
    covered = np.flatnonzero((before >= 0) & (before <= front_end.mel_bands))
    bent = front_end.mel_bank == "kaldi"
    pieces: list[MelPiece] = []
    for segment in range(front_end.mel_bands + 1):
        within = bins[before == segment]
        weights = (within - edges[segment]) / (edges[segment + 1] - edges[segment])
        pieces += _cut_segment(weights, bent=bent)
    return MelPieces(int(covered[0]), tuple(pieces), _compute_gains(front_end, edges_hz, bins_hz))


def _place(front_end: FrontEnd) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the edges [F + 2] and the bins [Q], in Hz and on the scale on which triangles are straight."""
    low, high = _to_mel(np.array([front_end.min_hz, front_end.max_hz]))
    edges_mel = np.linspace(low, high, front_end.mel_bands + 2)
    edges_hz = 700 * np.expm1(edges_mel / 1127)
    half = front_end.n_fft // 2
    if front_end.mel_bank == "kaldi":
        bins_hz = np.arange(half) * front_end.sample_rate / front_end.n_fft
        return edges_hz, edges_mel, bins_hz, _to_mel(bins_hz)
    # torchaudio's bins end at the whole number of Hz below half the sample rate.
    bins_hz = np.arange(half + 1) * (front_end.sample_rate // 2) / half
    return edges_hz, edges_hz, bins_hz, bins_hz


def _to_mel(hz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hz / 700)


def _compute_gains(
    front_end: FrontEnd, edges_hz: np.ndarray, bins_hz: np.ndarray
) -> np.ndarray | None:
    match front_end.mel_bank:
        case "htk" | "kaldi":
            return None
        case "htk_slaney_norm":
            gains_F = 2 / (edges_hz[2:] - edges_hz[:-2])
        case "htk_unit_sum":
            rises = (bins_hz - edges_hz[:-1, None]) / np.diff(edges_hz)[:, None]
            triangles_FQ = np.minimum(rises[:-1], 1 - rises[1:]).clip(min=0)
            sums_F = triangles_FQ.sum(axis=1)
            gains_F = 1 / np.where(sums_F > 0, sums_F, 1)
    return gains_F.astype(np.float32)


def _cut_segment(weights: np.ndarray, *, bent: bool) -> Iterator[MelPiece]:
    """Yield the pieces of the bins between two peaks; one without bins if there are none."""
    start = 0
    while True:
        length = min(LARGEST_PIECE, len(weights) - start)
        while True:
            first, step, bend = _fit(weights[start : start + length], bent=bent)
            n = np.arange(length)
            fitted = first + n * step + n * (n - 1) / 2 * bend
            if np.abs(fitted - weights[start : start + length]).max(initial=0) <= LARGEST_ERROR:
                break
            length = -(-length // 2)
        start += length
        goes_on = start < len(weights)
        yield MelPiece(length, first, step, bend, goes_on)
        if not goes_on:
            return


def _fit(weights: np.ndarray, *, bent: bool) -> tuple[float, float, float]:
    """Return first weight, first step and bend of the line or parabola through the weights."""
    degree = min(len(weights) - 1, 2 if bent else 1)
    if degree < 0:
        return 0.0, 0.0, 0.0
    around = np.polynomial.Polynomial.fit(
        np.arange(len(weights)), weights, degree, domain=(0, max(1, len(weights) - 1))
    )
    constant, slope, square = np.append(around.convert().coef, np.zeros(2))[:3]
    return float(constant), float(slope + square), float(2 * square)
