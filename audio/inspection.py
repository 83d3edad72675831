"""Find faults of decoded clips: clipped, silent, or the same as others.

Dimensions: N clips of a corpus, B clips of a chunk, S samples of a clip, W words of 8 bytes in it.

The map of a corpus is read once, in chunks. The results are stored next to it, and only clips that
have been decoded again are inspected again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio import waveforms
from audio.clips import Corpus
from audio.decoded_map import read_index
from audio.decoding import FULL_SCALE
from audio.npz_cache import look_alike, read_arrays, write_arrays
from audio.waveforms import Waveforms

WAVEFORM_CHUNK_BYTES = 8 * 2**20
"""Size of a chunk of waveforms: its intermediate results stay in the processor's cache."""
CLIPPED_SHARE = 1e-3
"""Share of samples at full scale from which a clip counts as clipped; loud clips have a few."""
SILENT_DB = -80.0
"""Level in dB of full scale below which a clip is silent: less than three steps of 16 bits."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Properties of each clip, arrays [N]."""

    digest: np.ndarray
    """uint64; equal for equal samples, and almost never for different ones."""
    full_scale_share: np.ndarray
    """Share of samples at full scale, float32."""
    level_db: np.ndarray
    """Root mean square without the mean in dB of full scale, float32; -inf for a constant clip."""

    def find_clipped(self) -> np.ndarray:
        """Return the rows of clipped clips, the worst first."""
        worst = np.argsort(-self.full_scale_share, kind="stable")
        return worst[self.full_scale_share[worst] >= CLIPPED_SHARE]

    def find_silent(self) -> np.ndarray:
        """Return the rows of silent clips, the quietest first."""
        worst = np.argsort(self.level_db, kind="stable")
        return worst[self.level_db[worst] < SILENT_DB]


def inspect_clips(
    corpus: Corpus,
    decoded: Waveforms,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Inspect the clips that have not been inspected yet; return the result for all clips.

    Args:
        corpus: The corpus.
        decoded: All its clips.
        cache: Folder of the maps; `find_cache_folder()` if None.
        on_progress: Called with (clips done, clips to do).
    """
    folder = waveforms.name_map_folder(corpus, decoded.sample_rate, cache)
    hashes_N = read_index(folder, len(corpus)).hashes
    inspection, seen_N = _read(folder / "inspection.npz", len(corpus))
    rows = np.flatnonzero(seen_N != hashes_N)
    done = 0
    for rows_B in _split_into_chunks(rows, decoded.samples_NS.shape[1]):
        samples_BS = decoded.samples_NS[rows_B]
        inspection.digest[rows_B] = _digest(samples_BS)
        inspection.full_scale_share[rows_B] = _measure_full_scale_share(samples_BS)
        inspection.level_db[rows_B] = _measure_level_db(samples_BS)
        done += len(rows_B)
        on_progress(done, len(rows))
    if len(rows):
        arrays = {name: getattr(inspection, name) for name in Inspection.__slots__}
        write_arrays(folder / "inspection.npz", arrays | {"hashes": hashes_N})
    return inspection


def find_duplicates(inspection: Inspection, decoded: Waveforms) -> list[list[int]]:
    """Return groups of rows with the same samples; silent clips are not compared."""
    audible = np.flatnonzero(inspection.level_db >= SILENT_DB)
    order = audible[np.argsort(inspection.digest[audible], kind="stable")]
    is_new = np.diff(inspection.digest[order], prepend=inspection.digest[order][:1]) != 0
    groups = []
    for rows in np.split(order, np.flatnonzero(is_new)):
        if len(rows) > 1:
            groups += _group_equal(rows, decoded.samples_NS)
    return sorted(groups)


def _group_equal(rows: np.ndarray, samples_NS: np.ndarray) -> Iterator[list[int]]:
    """Yield the groups of equal samples among clips of one digest."""
    left = rows.tolist()
    while len(left) > 1:
        same = [row for row in left if np.array_equal(samples_NS[left[0]], samples_NS[row])]
        if len(same) > 1:
            yield same
        left = [row for row in left if row not in same]


def _split_into_chunks(rows: np.ndarray, n_samples: int) -> Iterator[np.ndarray]:
    n_clips = max(1, WAVEFORM_CHUNK_BYTES // (2 * n_samples))
    for start in range(0, len(rows), n_clips):
        yield rows[start : start + n_clips]


def _digest(samples_BS: np.ndarray) -> np.ndarray:
    """Return the sum modulo 2^64 of each word times a random odd number: uint64 [B]."""
    missing = -samples_BS.shape[1] % 4
    padded_BS = np.pad(samples_BS, ((0, 0), (0, missing))) if missing else samples_BS
    words_BW = np.ascontiguousarray(padded_BS).view(np.uint64)
    random = np.random.default_rng(0)
    weights_W = random.integers(2**64, size=words_BW.shape[1], dtype=np.uint64) | np.uint64(1)
    return words_BW @ weights_W


def _measure_full_scale_share(samples_BS: np.ndarray) -> np.ndarray:
    is_full_BS = (samples_BS == FULL_SCALE - 1) | (samples_BS == -FULL_SCALE)
    return np.count_nonzero(is_full_BS, axis=1) / samples_BS.shape[1]


def _measure_level_db(samples_BS: np.ndarray) -> np.ndarray:
    scaled_BS = samples_BS / np.float32(FULL_SCALE)
    scaled_BS -= scaled_BS.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    power_B = np.einsum("bs,bs->b", scaled_BS, scaled_BS) / samples_BS.shape[1]
    with np.errstate(divide="ignore"):
        return 10 * np.log10(power_B)


def _read(file: Path, n_clips: int) -> tuple[Inspection, np.ndarray]:
    """Return the stored results and the hashes of the samples they are for; 0 if there are none.

    Results from before there were hashes do not say which samples they are for, and do not count.
    """
    arrays = read_arrays(file)
    kinds = {"digest": np.uint64, "full_scale_share": np.float32, "level_db": np.float32}
    new = {name: np.zeros(n_clips, kind) for name, kind in kinds.items()}
    hashes_N = np.zeros(n_clips, dtype=np.uint64)
    if look_alike(arrays, new | {"hashes": hashes_N}):
        hashes_N = arrays.pop("hashes")
        return Inspection(**arrays), hashes_N
    return Inspection(**new), hashes_N
