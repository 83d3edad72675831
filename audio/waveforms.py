"""Decode once: from audio files to one memory-mapped int16 array per corpus and sample rate.

Dimensions: N clips of a corpus, B clips in a batch, S samples of a clip.

All processes of a node read the same map through the page cache. Beside it lies an index with the
size and time of every file, so that only what changed is decoded again, and an interrupted run
goes on where it was.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

from audio.clips import Corpus
from audio.lengths import TOLERANCE

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FULL_SCALE = 32768
SAVE_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class BrokenClip:
    """A file that could not become a clip, and why."""

    file: str
    reason: str


class BrokenAudio(Exception):
    """Some clips of a corpus cannot be read; `broken` lists them."""

    def __init__(self, corpus: str, root: Path, n_clips: int, broken: list[BrokenClip]) -> None:
        self.corpus, self.root, self.n_clips, self.broken = corpus, root, n_clips, broken
        lines = "\n".join(f"  {clip.file}: {clip.reason}" for clip in broken[:20])
        more = f"\n  and {len(broken) - 20} more" if len(broken) > 20 else ""
        super().__init__(
            f"{len(broken)} of {n_clips} clips of corpus {corpus} in {root} cannot be read:\n"
            f"{lines}{more}\nMend or fetch these files again, or leave them out: "
            "python jobs/prepare.py --leave-out-broken (with the same --corpus, --root, --store)"
        )

    def __reduce__(self) -> tuple[type, tuple[str, Path, int, list[BrokenClip]]]:
        """Made anew from its parts on the other side of a process border."""
        return type(self), (self.corpus, self.root, self.n_clips, self.broken)


@dataclass(frozen=True, slots=True)
class Waveforms:
    """The decoded clips of a corpus, in its order: int16 [N, S] at `sample_rate` Hz."""

    samples_NS: np.ndarray
    sample_rate: int
    mixed_down: int = 0
    """Clips decoded just now that had several channels and became their mean."""
    saturated: int = 0
    """Clips decoded just now with samples beyond full scale, which were cut off there."""

    def batch(self, rows_B: np.ndarray, device: "torch.device") -> "Tensor":
        """Waveforms of these clips between -1 and 1, float32 [B, S]."""
        # Who only asks what files there are, as the store's command, does without.
        import torch

        samples_BS = torch.from_numpy(self.samples_NS[rows_B])
        return samples_BS.to(device).to(torch.float32).div_(FULL_SCALE)


def cache_folder() -> Path:
    """Where decoded audio lies on this machine: $TUTTI_CACHE, else ~/.cache/tutti."""
    return Path(os.environ.get("TUTTI_CACHE") or Path.home() / ".cache" / "tutti")


def decode(
    corpus: Corpus,
    sample_rate: int,
    *,
    cache: Path | None = None,
    threads: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Waveforms:
    """Decode what is new or changed; return the map of the whole corpus.

    Args:
        corpus: whose files.
        sample_rate: of the result, in Hz; other rates are resampled (soxr, "HQ").
        cache: folder of the maps; `cache_folder()` if None.
        threads: decoding threads; all cores if None.
        on_progress: called with (clips done, clips to do).

    Raises:
        BrokenAudio: some files are missing or unreadable; all others are decoded nevertheless.
    """
    folder = map_folder(corpus, sample_rate, cache)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return _decode_changed(corpus, sample_rate, folder, threads or os.cpu_count(), on_progress)


def load(corpus: Corpus, sample_rate: int, *, cache: Path | None = None) -> Waveforms:
    """The map of a corpus, decoded only if this machine has none yet.

    Unlike `decode`, does not look at the audio files again when all of them are decoded.

    Raises:
        BrokenAudio: as `decode`.
    """
    folder = map_folder(corpus, sample_rate, cache)
    index = read_index(folder, len(corpus))
    if not index.decoded.all():
        return decode(corpus, sample_rate, cache=cache)
    return Waveforms(_open_map(folder, corpus, sample_rate, mode="r"), sample_rate)


def decode_file(
    file: Path, sample_rate: int, duration_s: float, start_s: float | None = None
) -> tuple[np.ndarray, bool, bool]:
    """One clip: int16 [S], whether it was mixed down, whether it went beyond full scale.

    Args:
        file: holds the clip.
        sample_rate: of the result, in Hz.
        duration_s: of the result.
        start_s: where in the file the clip begins; what is there is repeated until it lasts long
            enough. None is a file that is the clip, and must last as long.

    Raises:
        ValueError: the file holds no clip of that duration, or samples that are not finite.
        soundfile.LibsndfileError: not an audio file that libsndfile reads.
    """
    samples, file_rate = _read_samples(file, duration_s, start_s)
    if len(samples) == 0:
        raise ValueError("holds no samples")
    bad = np.flatnonzero(~np.isfinite(samples).all(axis=1))
    if len(bad):
        raise ValueError(f"sample {bad[0]} is {samples[bad[0]].tolist()}, expected finite numbers")
    expected = round(duration_s * file_rate)
    is_short = expected - len(samples) > TOLERANCE * expected
    if start_s is None and (is_short or len(samples) - expected > TOLERANCE * expected):
        found_s = len(samples) / file_rate
        raise ValueError(f"lasts {found_s:.3f} s, expected {duration_s:.3f} s")
    mono = samples.mean(axis=1)
    if file_rate != sample_rate:
        mono = soxr.resample(mono, file_rate, sample_rate, quality="HQ")
    clip = np.zeros(round(duration_s * sample_rate), dtype=np.float32)
    if is_short:
        mono = np.resize(mono, len(clip))  # over and over
    clip[: len(mono)] = mono[: len(clip)]
    scaled = np.rint(clip * FULL_SCALE)
    # One step beyond is the rounding of a file that just fills its range.
    saturated = bool((np.abs(scaled) > FULL_SCALE + 1).any())
    limited = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return limited, samples.shape[1] > 1, saturated


def _read_samples(file: Path, duration_s: float, start_s: float | None) -> tuple[np.ndarray, int]:
    """Samples of a file or of a part of it, float32 [S, channels], and how many a second."""
    with soundfile.SoundFile(file) as audio:
        n_wanted = -1
        if start_s is not None:
            audio.seek(round(start_s * audio.samplerate))
            n_wanted = round(duration_s * audio.samplerate)
        return audio.read(n_wanted, dtype="float32", always_2d=True), audio.samplerate


@dataclass(frozen=True, slots=True)
class Index:
    """What is decoded, from which state of each file: arrays [N]."""

    decoded: np.ndarray
    size_bytes: np.ndarray
    modified_ns: np.ndarray


def _decode_changed(
    corpus: Corpus,
    sample_rate: int,
    folder: Path,
    threads: int | None,
    on_progress: Callable[[int, int], None],
) -> Waveforms:
    files, starts_s = corpus.table["file"].to_pylist(), corpus.starts_s()
    index = read_index(folder, len(corpus))
    size_bytes, modified_ns, broken = look_at_files(corpus.root, files)
    same = (index.size_bytes == size_bytes) & (index.modified_ns == modified_ns)
    index.decoded[~same] = False
    index.size_bytes[:], index.modified_ns[:] = size_bytes, modified_ns
    missing = {clip.file for clip in broken}
    todo = [row for row in np.flatnonzero(~index.decoded) if files[row] not in missing]
    samples_NS = _open_map(folder, corpus, sample_rate, mode="r+")
    mixed_down = saturated = 0
    saved = time.monotonic()

    def work(row: int) -> tuple[bool, bool] | str:
        try:
            clip, mixed, over = decode_file(
                corpus.root / files[row], sample_rate, corpus.clip_duration_s, starts_s[row]
            )
        except (ValueError, soundfile.LibsndfileError, OSError) as error:
            return str(error)
        samples_NS[row] = clip
        return mixed, over

    with ThreadPoolExecutor(threads) as pool:
        for done, (row, result) in enumerate(zip(todo, pool.map(work, todo), strict=True), start=1):
            if isinstance(result, str):
                broken.append(BrokenClip(files[row], result))
            else:
                index.decoded[row] = True
                mixed_down, saturated = mixed_down + result[0], saturated + result[1]
            on_progress(done, len(todo))
            if time.monotonic() - saved > SAVE_EVERY_S:
                _write_index(folder, index, samples_NS)
                saved = time.monotonic()
    _write_index(folder, index, samples_NS)
    if broken:
        broken.sort(key=lambda clip: clip.file)
        raise BrokenAudio(corpus.name, corpus.root, len(corpus), broken)
    read_only = _open_map(folder, corpus, sample_rate, mode="r")
    return Waveforms(read_only, sample_rate, mixed_down, saturated)


def look_at_files(root: Path, files: list[str]) -> tuple[np.ndarray, np.ndarray, list[BrokenClip]]:
    """Size and time of every file, and those that are not there."""
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


def map_folder(corpus: Corpus, sample_rate: int, cache: Path | None) -> Path:
    """One folder per list of files, root, length and rate: another list is another map."""
    identity = hashlib.sha256(str(corpus.root.resolve()).encode())
    for file in corpus.table["file"].to_pylist():
        identity.update(b"\n" + file.encode())
    if corpus.is_cut:
        identity.update(f"\n{corpus.starts_s()}".encode())
    name = f"{corpus.name}-{sample_rate}-{corpus.clip_duration_s:g}s-{identity.hexdigest()[:12]}"
    return (cache or cache_folder()) / "waveforms" / name


def _open_map(folder: Path, corpus: Corpus, sample_rate: int, *, mode: str) -> np.ndarray:
    file = folder / "waveforms.int16"
    shape = (len(corpus), round(corpus.clip_duration_s * sample_rate))
    if mode == "r+":
        with file.open("ab") as handle:
            handle.truncate(shape[0] * shape[1] * 2)
    return np.memmap(file, dtype=np.int16, mode="r" if mode == "r" else "r+", shape=shape)


def read_index(folder: Path, n_clips: int) -> Index:
    """The index of a map in its folder; nothing is decoded where there is none."""
    try:
        with np.load(folder / "index.npz") as arrays:
            return Index(arrays["decoded"], arrays["size_bytes"], arrays["modified_ns"])
    except FileNotFoundError:
        zeros = np.zeros(n_clips, dtype=np.int64)
        return Index(np.zeros(n_clips, dtype=bool), zeros, zeros.copy())


def _write_index(folder: Path, index: Index, samples_NS: np.ndarray) -> None:
    """Save the index, after the samples that it vouches for."""
    if isinstance(samples_NS, np.memmap):
        samples_NS.flush()
    temporary = folder / f".index-{os.getpid()}.npz"
    np.savez(
        temporary,
        decoded=index.decoded,
        size_bytes=index.size_bytes,
        modified_ns=index.modified_ns,
    )
    temporary.replace(folder / "index.npz")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process of a node at a time; the others wait, and find the work done."""
    with (folder / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
