"""What audio files say of themselves: how long, how fast, how many channels.

Dimensions: N files.

A header costs a tenth of a millisecond, and every task of a job reads the corpus. So what was read
is kept in $TUTTI_CACHE/headers, and only files of another size or time are opened again.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import soundfile

from audio.waveforms import cache_folder, look_at_files

READERS = 8
"""Headers read at once: on a network disk each waits for the server."""
COLUMNS = ("size_bytes", "modified_ns", "frames", "sample_rate", "channels")


@dataclass(frozen=True, slots=True)
class Headers:
    """Of each file, int64 [N]; all zero for one that cannot be read as audio."""

    frames: np.ndarray
    sample_rate: np.ndarray
    channels: np.ndarray

    @property
    def durations_s(self) -> np.ndarray:
        """How long each file lasts, float64 [N]; 0 for one that cannot be read."""
        return self.frames / np.maximum(1, self.sample_rate)


def read(root: Path, files: list[str]) -> Headers:
    """The headers of files below a folder, in the order of the files."""
    kept = cache_folder() / "headers" / f"{_name(root)}.parquet"
    columns_NC = _kept(kept, files)
    size_bytes, modified_ns, _ = look_at_files(root, files)
    changed = (columns_NC[:, 0] != size_bytes) | (columns_NC[:, 1] != modified_ns)
    columns_NC[:, 0], columns_NC[:, 1] = size_bytes, modified_ns
    rows = np.flatnonzero(changed)
    if len(rows):
        with ThreadPoolExecutor(READERS) as pool:
            found = pool.map(_header, (root / files[row] for row in rows))
            columns_NC[rows, 2:] = np.array(list(found))
        _keep(kept, files, columns_NC)
    return Headers(columns_NC[:, 2], columns_NC[:, 3], columns_NC[:, 4])


def _header(file: Path) -> tuple[int, int, int]:
    try:
        info = soundfile.info(file)
    except (soundfile.LibsndfileError, OSError):
        return 0, 0, 0  # the decoder says why
    return info.frames, info.samplerate, info.channels


def _name(root: Path) -> str:
    return hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]


def _kept(kept: Path, files: list[str]) -> np.ndarray:
    """What is known of these files, int64 [N, columns]; -1 where nothing is."""
    columns_NC = np.full((len(files), len(COLUMNS)), -1, dtype=np.int64)
    if kept.is_file():
        table = pq.read_table(kept)
        places = pc.index_in(pa.array(files, pa.string()), table["file"].combine_chunks())
        known = pc.is_valid(places).to_numpy(zero_copy_only=False)
        found = table.take(places.drop_null())
        columns_NC[known] = np.stack([found[name].to_numpy() for name in COLUMNS], axis=1)
    return columns_NC


def _keep(kept: Path, files: list[str], columns_NC: np.ndarray) -> None:
    columns = dict(zip(COLUMNS, columns_NC.T, strict=True))
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name(f".{kept.name}-{os.getpid()}")
    pq.write_table(pa.table({"file": pa.array(files, pa.string()), **columns}), temporary)
    temporary.replace(kept)
