"""Headers of audio files: number of frames, sample rate and channels (N files).

Reading a header takes a fifth of a millisecond, and longer if it may be wrong (`audio.sound_files`); and
every task of a job reads the corpus. So headers are cached in $TUTTI_CACHE/headers, and a file is opened again only if its size or time has changed.
"""

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audio.errors import UnfitSound
from audio.waveforms import read_file_states
from disk import find_cache_folder, open_whole

logger = logging.getLogger(__name__)

READERS = 8
"""Headers read at the same time: on a network disk each waits for the server."""
_VERSION = "-2"
"""Earlier caches hold lengths that libsndfile estimated."""
_COLUMNS = ("size_bytes", "modified_ns", "frames", "sample_rate", "channels")
_SCHEMA = pa.schema({"file": pa.string(), **dict.fromkeys(_COLUMNS, pa.int64())})


@dataclass(frozen=True, slots=True)
class Headers:
    """The headers of files, int64 [N]; all zero for a file that cannot be read as audio."""

    frames: np.ndarray
    sample_rate: np.ndarray
    channels: np.ndarray

    @property
    def durations_s(self) -> np.ndarray:
        """Durations of the files, float64 [N]; 0 for a file that cannot be read."""
        return self.frames / np.maximum(1, self.sample_rate)


def read_headers(root: Path, files: list[str]) -> Headers:
    """Return the headers of files below a folder, in the order of the files."""
    cache = find_cache_folder() / "headers" / f"{_hash_root(root)}{_VERSION}.parquet"
    columns_NC = _read_cache(cache, files)
    size_bytes, modified_ns, _ = read_file_states(root, files)
    changed = (columns_NC[:, 0] != size_bytes) | (columns_NC[:, 1] != modified_ns)
    columns_NC[:, 0], columns_NC[:, 1] = size_bytes, modified_ns
    rows = np.flatnonzero(changed)
    if len(rows):
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(_read_header, (root / files[row] for row in rows))
            columns_NC[rows, 2:] = np.array(list(found))
        _write_cache(cache, files, columns_NC)
    return Headers(columns_NC[:, 2], columns_NC[:, 3], columns_NC[:, 4])


def _read_header(file: Path) -> tuple[int, int, int]:
    from audio.sound_files import read_header

    try:
        header = read_header(file)
    except (UnfitSound, OSError):
        return 0, 0, 0  # the decoder reports the reason
    return header.frames, header.sample_rate, header.channels


def _hash_root(root: Path) -> str:
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]


def _read_cache(cache: Path, files: list[str]) -> np.ndarray:
    """Return the cached columns of these files, int64 [N, columns]; -1 where nothing is cached."""
    columns_NC = np.full((len(files), len(_COLUMNS)), -1, dtype=np.int64)
    table = _read_table(cache)
    if table is not None:
        places = pc.index_in(pa.array(files, pa.string()), table["file"].combine_chunks())
        known = pc.is_valid(places).to_numpy(zero_copy_only=False)
        found = table.take(places.drop_null())
        columns_NC[known] = np.stack([found[name].to_numpy() for name in _COLUMNS], axis=1)
    return columns_NC


def _read_table(cache: Path) -> pa.Table | None:
    if not cache.is_file():
        return None
    try:
        table = pq.read_table(cache, page_checksum_verification=True)
        return table.select(["file", *_COLUMNS]).cast(_SCHEMA)
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - damage raises many kinds of errors
        logger.warning("%s: damaged, so it is made again (%s)", cache, " ".join(str(error).split()))
        return None


def _write_cache(cache: Path, files: list[str], columns_NC: np.ndarray) -> None:
    columns = dict(zip(_COLUMNS, columns_NC.T, strict=True))
    with open_whole(cache) as file:
        table = pa.table({"file": pa.array(files, pa.string()), **columns}, _SCHEMA)
        pq.write_table(table, file, write_page_checksum=True)
