"""Compiled loops of the front-end on a CPU: frames out of waveforms, and mel bands out of spectra.

B clips, S samples, R frames of all clips (T of each), Q bins of the transform, F mel bands, P pieces of
products, L lanes.

A loop of `numba` computes what a chain of torch's operations would write to memory and read again. The numbers
are the same to the last bit: products are added bin by bin from the lowest on, each with one rounding, and
in pieces, as MKL's matrix product does it that the bands were first computed by (`split_sum`).
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic as _untyped_intrinsic
from numpy.typing import NDArray

from disk.numba_cache import compiled

LANES = 8
"""Bands whose sums are one vector: a bin of 4096 points is in the reach of ten bands out of 256."""
FRAMES_AT_ONCE = 8
"""Frames that share a read of the weights, one register each."""
MOST_TERMS = 192
"""Products that are added to one sum; sums of more are added afterwards."""

Singles = NDArray[np.float32]
intrinsic: Any = _untyped_intrinsic
"""numba calls the decorated function with other arguments than those it declares."""


@dataclass(frozen=True, slots=True)
class Bands:
    """The filterbank as pieces of products, which `sum_bands` takes one after the other."""

    pieces_P4: NDArray[np.int64]
    """First band, first bin, number of bins, and where the weights begin."""
    weights: Singles
    """The weights [bins, L] of all pieces, one after another."""


def plan_bands(blocks: Iterable[tuple[slice, Singles]]) -> Bands:
    """Return the pieces of a filterbank.

    Args:
        blocks: From the lowest bands on, the bins that a block of bands covers, and their weights, (Q, F).

    Raises:
        ValueError: A block's bands are no multiple of `LANES`.
    """
    pieces, weights = [], []
    n_bands = n_rows = 0
    for bins, block_QF in blocks:
        if block_QF.shape[1] % LANES:
            raise ValueError(
                f"{block_QF.shape[1]} bands in a block, expected a multiple of {LANES}"
            )
        for group_QL in np.split(block_QF, block_QF.shape[1] // LANES, axis=1):
            for start, stop in _find_pieces(group_QL):
                pieces.append((n_bands, bins.start + start, stop - start, n_rows * LANES))
                weights.append(group_QL[start:stop])
                n_rows += stop - start
            n_bands += LANES
    return Bands(np.array(pieces, np.int64), np.concatenate(weights, dtype=np.float32).reshape(-1))


def split_sum(n_terms: int) -> list[int]:
    """Return where the pieces of a sum of this many products begin, and the number of products.

    Up to 192 products are one piece, up to 384 two halves (and what is left of an odd number), and more are
    pieces of 192. Measured with the MKL of torch 2.11 on an AMD EPYC (Zen 4): another split gives other bits.
    """
    if n_terms <= MOST_TERMS:
        return [0, n_terms]
    length = n_terms // 2 if n_terms <= 2 * MOST_TERMS else MOST_TERMS
    return [*range(0, n_terms, length), n_terms]


def _find_pieces(group_QL: Singles) -> Iterator[tuple[int, int]]:
    """Yield the rows of each piece that has weights; a product with a weight of 0 changes no sum."""
    covered = np.flatnonzero(group_QL.any(axis=1))
    first, last = (covered[0], covered[-1] + 1) if len(covered) else (0, 1)
    cuts = split_sum(len(group_QL))
    for start, stop in itertools.pairwise(cuts):
        if max(start, first) < min(stop, last):
            yield max(start, first), min(stop, last)


@compiled()
def cut_frames(
    waves_BS: Singles,
    shifts_B: NDArray[np.int64],
    emphasis: np.float32,
    window: Singles,
    hop: int,
    mirrored: Singles,
    frames_RN: Singles,
) -> None:
    """Write the windowed frames of clips, which are rolled before, and whose ends are mirrored.

    Args:
        waves_BS: The clips.
        shifts_B: By how many samples each of them is shifted circularly, later in time.
        emphasis: The a of the pre-emphasis y[n] = x[n + 1] - a x[n]; 0 for none.
        window: The window without the zeros beside it.
        hop: Distance between two frames in samples.
        mirrored: Working memory for a clip and a frame, [S + N].
        frames_RN: The result, which is 0 outside of the window already.
    """
    n_fft, n_window, n_samples = frames_RN.shape[1], len(window), waves_BS.shape[1]
    half, margin = n_fft // 2, (n_fft - n_window) // 2
    n_used = n_samples - (1 if emphasis != 0 else 0)
    n_frames = len(frames_RN) // len(waves_BS)
    # Slices: LLVM then knows that no index is below 0, and uses vectors.
    inner, after = mirrored[half : half + n_samples], mirrored[half + n_used : 2 * half + n_used]
    for clip in range(len(waves_BS)):
        cut = -shifts_B[clip] % n_samples
        head, tail, behind = waves_BS[clip, cut:], waves_BS[clip, :cut], inner[n_samples - cut :]
        if emphasis == 0:
            for i in range(len(head)):
                inner[i] = head[i]
            for i in range(len(tail)):
                behind[i] = tail[i]
        else:
            later = head[1:]
            for i in range(len(later)):
                inner[i] = later[i] - emphasis * head[i]
            if cut:
                inner[len(later)] = tail[0] - emphasis * head[len(later)]
                later = tail[1:]
                for i in range(len(later)):
                    behind[i] = later[i] - emphasis * tail[i]
        for i in range(half):
            mirrored[i] = inner[half - i]
        for i in range(half):
            after[i] = inner[n_used - 2 - i]
        for t in range(n_frames):
            source = mirrored[t * hop + margin : t * hop + margin + n_window]
            frame = frames_RN[clip * n_frames + t, margin : margin + n_window]
            for i in range(n_window):
                frame[i] = source[i] * window[i]


@compiled()
def sum_bands(
    spectra_RQ: NDArray[np.complex64],
    pieces_P4: NDArray[np.int64],
    weights: Singles,
    n_frames: int,
    n_bands: int,
    power: Singles,
    power_BFT: Singles,
) -> None:
    """Write the power of each mel band of each frame.

    Args:
        spectra_RQ: The transformed frames of all clips.
        pieces_P4: See `Bands`.
        weights: See `Bands`.
        n_frames: T.
        n_bands: F.
        power: Working memory, `make_workspace`.
        power_BFT: The result, flat.
    """
    n_rows, n_bins = spectra_RQ.shape
    stride = len(power) // FRAMES_AT_ONCE
    sums = np.empty(FRAMES_AT_ONCE * LANES, np.float32)
    places = np.empty(FRAMES_AT_ONCE, np.int64)
    for first in range(0, n_rows, FRAMES_AT_ONCE):
        n_now = min(FRAMES_AT_ONCE, n_rows - first)
        for r in range(n_now):
            row = first + r
            places[r] = row // n_frames * n_bands * n_frames + row % n_frames
            spectrum, own = spectra_RQ[row], power[r * stride : r * stride + n_bins]
            for q in range(n_bins):
                own[q] = spectrum[q].real * spectrum[q].real + spectrum[q].imag * spectrum[q].imag
        for p in range(len(pieces_P4)):
            band, bin_, n, begin = pieces_P4[p]
            is_first = p == 0 or pieces_P4[p - 1, 0] != band
            add_products(power, bin_, stride, weights, begin, n, is_first, sums)
            if p + 1 == len(pieces_P4) or pieces_P4[p + 1, 0] != band:
                for lane in range(LANES):
                    for r in range(n_now):
                        power_BFT[places[r] + (band + lane) * n_frames] = sums[r * LANES + lane]


def make_workspace(n_bins: int) -> Singles:
    """Return the working memory of `sum_bands`: the power of some frames, which lie apart.

    An odd number of cache lines between them spreads them over the sets of the cache.
    """
    lines = -(-n_bins * 4 // 64) | 1
    return np.zeros(FRAMES_AT_ONCE * lines * 16, np.float32)


@intrinsic
def add_products(
    typing_context: Any,
    power: Any,
    first: Any,
    stride: Any,
    weights: Any,
    begin: Any,
    n: Any,
    is_first: Any,
    sums: Any,
) -> Any:
    """Add the sum of n products of power and weights to `sums`, for each frame and lane.

    `is_first` overwrites `sums`. Each frame has a vector, to which a product of a bin is added with one rounding (FMA). numba
    makes no vectors of such a loop by itself.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        types = signature.args
        _, at, step, _, begins, count, overwrites, _ = arguments
        power_at, weights_at, sums_at = (
            context.make_array(types[i])(context, builder, arguments[i]).data for i in (0, 3, 7)
        )
        int64, vector = ir.IntType(64), ir.VectorType(ir.FloatType(), LANES)
        nothing = ir.Constant(vector, [0.0] * LANES)
        rows = [
            builder.gep(power_at, [builder.add(at, builder.mul(step, int64(r)))])
            for r in range(FRAMES_AT_ONCE)
        ]
        totals = [cgutils.alloca_once(builder, vector) for _ in rows]
        for total in totals:
            builder.store(nothing, total)
        with cgutils.for_range(builder, count) as loop:
            own = builder.add(begins, builder.mul(loop.index, int64(LANES)))
            weight = _load(builder, weights_at, own, vector)
            for row, total in zip(rows, totals, strict=True):
                number = builder.load(builder.gep(row, [loop.index]))
                product = (_spread(builder, number, vector), weight, builder.load(total))
                builder.store(_fma(builder, vector, product), total)
        for r, total in enumerate(totals):
            place = int64(r * LANES)
            longer = builder.fadd(_load(builder, sums_at, place, vector), builder.load(total))
            value = builder.select(overwrites, builder.load(total), longer)
            at_place = builder.bitcast(builder.gep(sums_at, [place]), vector.as_pointer())
            builder.store(value, at_place, align=4)
        return context.get_dummy_value()

    int64 = numba.int64
    return numba.void(power, int64, int64, weights, int64, int64, numba.boolean, sums), generate


def _load(builder: Any, data: Any, place: Any, vector: Any) -> Any:
    pointer = builder.bitcast(builder.gep(data, [place]), vector.as_pointer())
    return builder.load(pointer, align=4)


def _spread(builder: Any, number: Any, vector: Any) -> Any:
    """Return a vector that has one number in all lanes."""
    unset = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(unset, number, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, unset, zeros)


def _fma(builder: Any, vector: Any, arguments: Any) -> Any:
    kind = ir.FunctionType(vector, [vector] * 3)
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
    return builder.call(function, arguments)
