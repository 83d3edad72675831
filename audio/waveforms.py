"""Decode a corpus once into a memory-mapped int16 array, one per sample rate.

Dimensions: N clips of a corpus, B clips in a batch, S samples of a clip.

All processes of a node read the same map through the page cache. An index next to it (see
`audio.decoded_map`) holds the size and time of every file, so that only changed files are decoded
again, and an interrupted run continues where it stopped. It also verifies the map itself.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audio.clips import Corpus
from audio.decoded_map import (
    Index,
    hash_samples,
    open_map_to_read,
    open_map_to_write,
    open_whole_map,
    read_index,
    unmark_lost_clips,
    write_index,
)
from audio.decoding import FULL_SCALE, decode_file
from audio.errors import BrokenAudio, BrokenClip, CorpusError
from disk import find_cache_folder, hold_lock

if TYPE_CHECKING:
    import torch
    from torch import Tensor

SAVE_EVERY_S = 10.0
"""Time between two writes of the index while clips are decoded."""


@dataclass(frozen=True, slots=True)
class Waveforms:
    """The decoded clips of a corpus, in its order: int16 [N, S] at `sample_rate` Hz."""

    samples_NS: np.ndarray
    sample_rate: int
    mixed_down: int = 0
    """Number of clips decoded by this call whose channels were averaged."""
    saturated: int = 0
    """Number of clips decoded by this call with samples that were limited to full scale."""

    def load_batch(self, rows_B: np.ndarray, device: "torch.device") -> "Tensor":
        """Return the waveforms of these clips within -1...1, float32 [B, S]."""
        # Imported here: commands that only list files start without torch.
        import torch

        samples_BS = torch.from_numpy(self.samples_NS[rows_B])
        return samples_BS.to(device).to(torch.float32).div_(FULL_SCALE)


def decode_corpus(
    corpus: Corpus,
    sample_rate: int,
    *,
    cache: Path | None = None,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Waveforms:
    """Decode new and changed files; return the map of the whole corpus.

    Args:
        corpus: The corpus.
        sample_rate: Sample rate of the result in Hz; other rates are resampled (soxr, "HQ").
        cache: Folder of the maps; `find_cache_folder()` if None.
        threads: Number of decoding threads; all cores if None.
        on_progress: Called with (clips done, clips to do).

    Raises:
        BrokenAudio: Some files are missing or unreadable; all others have been decoded.
    """
    folder = name_map_folder(corpus, sample_rate, cache)
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder / "lock"):
        return _decode_changed(corpus, sample_rate, folder, threads or os.cpu_count(), on_progress)


def load_waveforms(corpus: Corpus, sample_rate: int, *, cache: Path | None = None) -> Waveforms:
    """Return the map of a corpus; decode only clips that the map lacks, or that have changed in it.

    Unlike `decode_corpus`, this does not check whether the audio files have changed, if the map is
    unchanged.

    Raises:
        BrokenAudio: Some files are missing or unreadable.
    """
    folder = name_map_folder(corpus, sample_rate, cache)
    index = read_index(folder, len(corpus), quiet=True)
    shape = _compute_shape(corpus, sample_rate)
    samples_NS = open_whole_map(folder, index, shape)
    if samples_NS is None and folder.is_dir() and not os.access(folder, os.W_OK):
        # A map on a read-only disk or in an image can be checked, but not written.
        unmark_lost_clips(folder, index, shape)
        samples_NS = open_map_to_read(folder, shape) if index.decoded.all() else None
    if samples_NS is None:
        return decode_corpus(corpus, sample_rate, cache=cache)
    return Waveforms(samples_NS, sample_rate)


def read_hashes(corpus: Corpus, sample_rate: int, *, cache: Path | None = None) -> np.ndarray:
    """Return a hash of the samples of each clip, uint64 [N], which decoding has left in the index.

    Raises:
        CorpusError: Some clips are not decoded at that rate on this machine.
    """
    folder = name_map_folder(corpus, sample_rate, cache)
    index = read_index(folder, len(corpus), quiet=True)
    if not index.decoded.all():
        raise CorpusError(
            f"{folder}: {(~index.decoded).sum():,} of {len(corpus):,} clips of corpus {corpus.name} are "
            f"not decoded to {sample_rate} Hz, so their audio cannot be compared; decode them first"
        )
    return index.hashes


def _decode_changed(
    corpus: Corpus,
    sample_rate: int,
    folder: Path,
    threads: int | None,
    on_progress: Callable[[int, int], None],
) -> Waveforms:
    index, shape = read_index(folder, len(corpus)), _compute_shape(corpus, sample_rate)
    unmark_lost_clips(folder, index, shape)
    rows, broken = _find_rows_to_decode(corpus, index)
    samples_NS = open_map_to_write(folder, shape)
    mixed_down = saturated = 0
    saved = time.monotonic()
    results = _decode_rows(corpus, sample_rate, rows, samples_NS, threads)
    for done, (row, result) in enumerate(results, start=1):
        if isinstance(result, BrokenClip):
            broken.append(result)
        else:
            index.decoded[row], index.hashes[row] = True, result.samples_hash
            mixed_down += result.is_mixed_down
            saturated += result.is_saturated
        on_progress(done, len(rows))
        if time.monotonic() - saved > SAVE_EVERY_S:
            write_index(folder, index, samples_NS)
            saved = time.monotonic()
    write_index(folder, index, samples_NS)
    if broken:
        broken.sort(key=lambda clip: clip.file)
        raise BrokenAudio(corpus.name, corpus.root, len(corpus), broken)
    read_only_NS = open_map_to_read(folder, shape)
    return Waveforms(read_only_NS, sample_rate, mixed_down, saturated)


def _find_rows_to_decode(corpus: Corpus, index: Index) -> tuple[list[int], list[BrokenClip]]:
    """Bring the index up to date with the files; return what to decode, and what is missing."""
    files = corpus.table["file"].to_pylist()
    size_bytes, modified_ns, broken = read_file_states(corpus.root, files)
    same = (index.size_bytes == size_bytes) & (index.modified_ns == modified_ns)
    index.decoded[~same] = False
    index.size_bytes[:], index.modified_ns[:] = size_bytes, modified_ns
    missing = {clip.file for clip in broken}
    rows = np.flatnonzero(~index.decoded).tolist()
    return [row for row in rows if files[row] not in missing], broken


@dataclass(frozen=True, slots=True)
class _DecodedClip:
    """Facts about a clip whose samples are in the map."""

    samples_hash: int
    is_mixed_down: bool
    is_saturated: bool


def _decode_rows(
    corpus: Corpus, sample_rate: int, rows: list[int], samples_NS: np.ndarray, threads: int | None
) -> Iterator[tuple[int, _DecodedClip | BrokenClip]]:
    """Decode clips into the map; yield the facts about each."""
    files, starts_s = corpus.table["file"].to_pylist(), corpus.starts_s()

    def decode(row: int) -> _DecodedClip | BrokenClip:
        try:
            clip = decode_file(
                corpus.root / files[row], sample_rate, corpus.clip_duration_s, starts_s[row]
            )
        except (ValueError, OSError) as error:
            return BrokenClip(files[row], str(error))
        samples_NS[row] = clip.samples_S
        # Hash the decoded samples, and not what the map gives back.
        samples_hash = hash_samples(clip.samples_S)
        return _DecodedClip(samples_hash, clip.is_mixed_down, clip.is_saturated)

    with ThreadPoolExecutor(threads) as pool:
        yield from zip(rows, pool.map(decode, rows), strict=True)


def read_file_states(
    root: Path, files: list[str]
) -> tuple[np.ndarray, np.ndarray, list[BrokenClip]]:
    """Return the size and time of every file, and the files that are missing."""
    size_bytes = np.zeros(len(files), dtype=np.int64)
    modified_ns = np.zeros(len(files), dtype=np.int64)
    missing = []
    for row, file in enumerate(files):
        try:
            status = (root / file).stat()
        except OSError as error:
            missing.append(BrokenClip(file, error.strerror or str(error)))
            continue
        size_bytes[row], modified_ns[row] = status.st_size, status.st_mtime_ns
    return size_bytes, modified_ns, missing


def name_map_folder(corpus: Corpus, sample_rate: int, cache: Path | None) -> Path:
    """Return the folder of a map: one for each list of files, root, clip length and rate."""
    identity = hashlib.sha256(str(corpus.root.resolve()).encode())
    for file in corpus.table["file"].to_pylist():
        identity.update(b"\n" + file.encode())
    if corpus.is_cut:
        identity.update(f"\n{corpus.starts_s()}".encode())
    name = f"{corpus.name}-{sample_rate}-{corpus.clip_duration_s:g}s-{identity.hexdigest()[:12]}"
    return (cache or find_cache_folder()) / "waveforms" / name


def _compute_shape(corpus: Corpus, sample_rate: int) -> tuple[int, int]:
    return len(corpus), round(corpus.clip_duration_s * sample_rate)
