"""What is wrong with decoded clips: at full scale, silent, or the same as others.

Dimensions: N clips of a corpus, B clips of a chunk, S samples of a clip, W words of 8 bytes of it.

One pass over the map of a corpus, in chunks. What is found lies beside the map, and only clips that
were decoded anew are looked at again.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio import waveforms
from audio.clips import Corpus
from audio.waveforms import FULL_SCALE, Waveforms

CHUNK_BYTES = 8 * 2**20
"""Of waveforms looked at together: what is computed of them stays in a processor's cache."""
CLIPPED_SHARE = 1e-3
"""Of its samples at full scale, from which a clip counts as clipped: loud ones touch it too."""
SILENT_DB = -80.0
"""Level below which a clip is silent, in dB of full scale: less than three steps of 16 bit."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found in each clip, arrays [N]."""

    digest: np.ndarray
    """uint64; equal for equal samples, and hardly ever for others."""
    full_scale_share: np.ndarray
    """Share of its samples at full scale, float32."""
    level_db: np.ndarray
    """Root mean square without the mean, in dB of full scale, float32; -inf is all one value."""

    def clipped(self) -> np.ndarray:
        """Rows of clipped clips, the worst first."""
        worst = np.argsort(-self.full_scale_share, kind="stable")
        return worst[self.full_scale_share[worst] >= CLIPPED_SHARE]

    def silent(self) -> np.ndarray:
        """Rows of silent clips, the most silent first."""
        worst = np.argsort(self.level_db, kind="stable")
        return worst[self.level_db[worst] < SILENT_DB]


def inspect(
    corpus: Corpus,
    decoded: Waveforms,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Look at the clips that were not looked at yet; what is found in all of them.

    Args:
        corpus: whose clips.
        decoded: all of them.
        cache: folder of the maps; `waveforms.cache_folder()` if None.
        on_progress: called with (clips done, clips to do).
    """
    folder = waveforms.map_folder(corpus, decoded.sample_rate, cache)
    index = waveforms.read_index(folder, len(corpus))
    state_N2 = np.stack([index.size_bytes, index.modified_ns], axis=1)
    found, seen_N2 = _read(folder / "inspection.npz", len(corpus))
    rows = np.flatnonzero((seen_N2 != state_N2).any(axis=1))
    done = 0
    for rows_B in _chunks(rows, decoded.samples_NS.shape[1]):
        samples_BS = decoded.samples_NS[rows_B]
        found.digest[rows_B] = _digests(samples_BS)
        found.full_scale_share[rows_B] = _full_scale_shares(samples_BS)
        found.level_db[rows_B] = _levels_db(samples_BS)
        done += len(rows_B)
        on_progress(done, len(rows))
    if len(rows):
        _write(folder / "inspection.npz", found, state_N2)
    return found


def same_audio(found: Inspection, decoded: Waveforms) -> list[list[int]]:
    """Clips that hold the same samples, each group by row; silent ones are not compared."""
    heard = np.flatnonzero(found.level_db >= SILENT_DB)
    order = heard[np.argsort(found.digest[heard], kind="stable")]
    is_new = np.diff(found.digest[order], prepend=found.digest[order][:1]) != 0
    groups = []
    for rows in np.split(order, np.flatnonzero(is_new)):
        if len(rows) > 1:
            groups += _equal(rows, decoded.samples_NS)
    return sorted(groups)


def _equal(rows: np.ndarray, samples_NS: np.ndarray) -> Iterator[list[int]]:
    """Clips of one digest in groups of equal samples."""
    left = rows.tolist()
    while len(left) > 1:
        same = [row for row in left if np.array_equal(samples_NS[left[0]], samples_NS[row])]
        if len(same) > 1:
            yield same
        left = [row for row in left if row not in same]


def _chunks(rows: np.ndarray, n_samples: int) -> Iterator[np.ndarray]:
    n_clips = max(1, CHUNK_BYTES // (2 * n_samples))
    for start in range(0, len(rows), n_clips):
        yield rows[start : start + n_clips]


def _digests(samples_BS: np.ndarray) -> np.ndarray:
    """A random odd multiple of each word, summed modulo 2^64: uint64 [B]."""
    missing = -samples_BS.shape[1] % 4
    padded_BS = np.pad(samples_BS, ((0, 0), (0, missing))) if missing else samples_BS
    words_BW = np.ascontiguousarray(padded_BS).view(np.uint64)
    random = np.random.default_rng(0)
    weights_W = random.integers(2**64, size=words_BW.shape[1], dtype=np.uint64) | np.uint64(1)
    return words_BW @ weights_W


def _full_scale_shares(samples_BS: np.ndarray) -> np.ndarray:
    is_full_BS = (samples_BS == FULL_SCALE - 1) | (samples_BS == -FULL_SCALE)
    return np.count_nonzero(is_full_BS, axis=1) / samples_BS.shape[1]


def _levels_db(samples_BS: np.ndarray) -> np.ndarray:
    scaled_BS = samples_BS / np.float32(FULL_SCALE)
    scaled_BS -= scaled_BS.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    power_B = np.einsum("bs,bs->b", scaled_BS, scaled_BS) / samples_BS.shape[1]
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power_B)


def _read(file: Path, n_clips: int) -> tuple[Inspection, np.ndarray]:
    """What was found, and in which states of the files; none at first."""
    try:
        with np.load(file) as arrays:
            kept = (arrays[name] for name in ("digest", "full_scale_share", "level_db"))
            return Inspection(*kept), arrays["state"]
    except FileNotFoundError:
        figures = (np.zeros(n_clips, dtype) for dtype in (np.uint64, np.float32, np.float32))
        return Inspection(*figures), np.full((n_clips, 2), -1, dtype=np.int64)


def _write(file: Path, found: Inspection, state_N2: np.ndarray) -> None:
    temporary = file.with_name(f".inspection-{os.getpid()}.npz")
    np.savez(
        temporary,
        digest=found.digest,
        full_scale_share=found.full_scale_share,
        level_db=found.level_db,
        state=state_N2,
    )
    temporary.replace(file)
