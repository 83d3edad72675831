"""The map of a decoded corpus, and the index that verifies it (N clips, S samples of a clip).

The index holds the size and time of every clip's file, a hash of its samples, and the size, times and
inode of the map when the index was written. If these of the map have changed, its clips are hashed
again, and a clip with another hash does not count as decoded. So a map that was removed, cut, emptied
or overwritten is never read as if it were whole.
"""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from audio.errors import CacheFull
from audio.npz_cache import look_alike, read_arrays, write_arrays

logger = logging.getLogger(__name__)

MAP_NAME = "waveforms.int16"
INDEX_NAME = "index.npz"


@dataclass(slots=True)
class Index:
    """Which clips are decoded, the size and time of their files then, and their hashes: arrays [N]."""

    decoded: np.ndarray
    size_bytes: np.ndarray
    modified_ns: np.ndarray
    hashes: np.ndarray
    """uint64: `hash_samples` of each clip."""
    map_state: np.ndarray
    """`_describe_map` when the index was written; -1 in an index of an earlier version."""


def read_index(folder: Path, n_clips: int, *, quiet: bool = False) -> Index:
    """Read the index of a map; without one, or if it is damaged, no clip counts as decoded.

    Args:
        folder: the folder of the map.
        n_clips: the number of clips in the corpus.
        quiet: whether to omit the warning about damage.
    """
    file = folder / INDEX_NAME
    arrays = read_arrays(file, quiet=quiet)
    zeros = np.zeros(n_clips, dtype=np.int64)
    first = {"decoded": zeros.astype(bool), "size_bytes": zeros, "modified_ns": zeros.copy()}
    hashes = {"hashes": zeros.astype(np.uint64), "map_state": np.full(4, -1, dtype=np.int64)}
    if look_alike(arrays, first | hashes):
        return Index(**arrays)
    # An index of an earlier version has no hashes.
    if look_alike(arrays, first):
        return Index(**arrays, **hashes)
    if arrays and not quiet:
        logger.warning("%s: has unexpected arrays, so it is made again", file)
    return Index(**first, **hashes)


def write_index(folder: Path, index: Index, samples_NS: np.ndarray) -> None:
    """Write the index, after the samples that it describes are on the disk."""
    if isinstance(samples_NS, np.memmap):
        # Returns when the samples and the length of their file are written.
        samples_NS.flush()
    with (folder / MAP_NAME).open("rb") as opened:
        index.map_state = _describe_map(opened)
    # Sorted, so that an index that lost its last arrays never looks like one of an earlier version.
    write_arrays(
        folder / INDEX_NAME, {name: getattr(index, name) for name in sorted(Index.__slots__)}
    )


def open_map_to_write(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """Open the map, of this shape, to decode clips into it; make it if there is none.

    Raises:
        CacheFull: the disk has no room for it; what was decoded before is still there.
    """
    file = folder / MAP_NAME
    file.touch()
    with file.open("r+b") as opened:
        _reserve(folder, opened, shape[0] * shape[1] * 2)
        return np.memmap(opened, dtype=np.int16, mode="r+", shape=shape)


def _reserve(folder: Path, opened: BinaryIO, n_bytes: int) -> None:
    """Bring a map to its length, with room on the disk for all of it.

    A map may have been sparse. If the disk were full when samples are written into it, the kernel
    would kill the process (SIGBUS).
    """
    before = os.fstat(opened.fileno())
    if before.st_size == n_bytes <= 512 * before.st_blocks:
        return
    opened.truncate(n_bytes)
    try:
        os.posix_fallocate(opened.fileno(), 0, n_bytes)
    except OSError as error:
        opened.truncate(min(before.st_size, n_bytes))
        disk = os.statvfs(folder)
        raise CacheFull(
            folder,
            needed=n_bytes - min(512 * before.st_blocks, n_bytes),
            free=disk.f_bavail * disk.f_frsize,
            reason=error.strerror or str(error),
        ) from error


def open_map_to_read(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """Open the map to read it, without a check."""
    return np.memmap(folder / MAP_NAME, dtype=np.int16, mode="r", shape=shape)


def open_whole_map(folder: Path, index: Index, shape: tuple[int, int]) -> np.ndarray | None:
    """Open the map to read it; None unless the index describes all of it, and it is unchanged."""
    if not index.decoded.all():
        return None
    try:
        # The same open file is described and mapped, even if it is replaced meanwhile.
        with (folder / MAP_NAME).open("rb") as opened:
            if not np.array_equal(_describe_map(opened), index.map_state):
                return None
            return np.memmap(opened, dtype=np.int16, mode="r", shape=shape)
    except FileNotFoundError:
        return None


def unmark_lost_clips(folder: Path, index: Index, shape: tuple[int, int]) -> None:
    """Mark the clips whose samples in the map have changed as not decoded.

    If the map is not the file that the index describes, its clips are hashed. An index of an earlier
    version has no hashes: they are noted, except for clips of zeros and maps of another size, which
    are decoded again.
    """
    file = folder / MAP_NAME
    if not index.decoded.any():
        return
    try:
        with file.open("rb") as opened:
            state = _describe_map(opened)
    except FileNotFoundError:
        state = np.zeros(4, dtype=np.int64)
    if np.array_equal(state, index.map_state):
        return
    n_there = min(shape[0], int(state[0]) // (2 * shape[1]))
    hashes = np.zeros_like(index.hashes)
    hashes[:n_there] = _hash_clips(file, (n_there, shape[1]))
    if index.map_state[0] < 0:
        whole = state[0] == 2 * shape[0] * shape[1]
        sound = (hashes != hash_samples(np.zeros(shape[1], dtype=np.int16))) & whole
        index.hashes[:] = hashes
    else:
        sound = hashes == index.hashes
    sound[n_there:] = False
    n_known, n_lost = int(index.decoded.sum()), int((index.decoded & ~sound).sum())
    index.decoded &= sound
    if n_lost:
        logger.warning(
            "%s: %d of %d clips are missing or have changed, so they are decoded again",
            *(file, n_lost, n_known),
        )


def hash_samples(samples_S: np.ndarray) -> int:
    """Return a 64-bit hash of the samples of a clip."""
    return int.from_bytes(hashlib.blake2b(samples_S.data, digest_size=8).digest(), "little")


def _hash_clips(file: Path, shape: tuple[int, int]) -> np.ndarray:
    if not shape[0]:
        return np.zeros(0, dtype=np.uint64)
    samples_NS = np.memmap(file, dtype=np.int16, mode="r", shape=shape)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(hash_samples, samples_NS)), dtype=np.uint64)


def _describe_map(opened: BinaryIO) -> np.ndarray:
    """Return size, mtime, ctime and inode of a map's file, int64 [4]."""
    status = os.fstat(opened.fileno())
    number = status.st_ino & (2**63 - 1)
    return np.array([status.st_size, status.st_mtime_ns, status.st_ctime_ns, number])
