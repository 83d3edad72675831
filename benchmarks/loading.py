"""Compares the feed with the usual way: a DataLoader whose workers read one file per clip.

B clips in a batch, S samples of a clip, F mel bands, T frames.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
import torchaudio
from scipy.signal import fftconvolve
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from audio import augment, impulse_responses, waveforms
from audio.clips import Corpus
from audio.corpora import demo
from audio.decoding import FULL_SCALE
from audio.feed import Feed
from audio.front_ends import FrontEnd
from audio.views import Augmentation
from benchmarks.results import format_table, publish, ratio
from benchmarks.steps import open_feed
from teachers.recipes import RECIPES

RECIPE = RECIPES["mn10_as_dir_fms"]
N_WORKERS = 2
BATCH = 60


class ClipFiles(Dataset[Tensor]):
    """A data set that reads, resamples and changes one clip at a time, as is usual."""

    def __init__(
        self, files: list[Path], is_reference_N: np.ndarray, rate: int, augmentation: Augmentation
    ) -> None:
        self.files, self.is_reference_N = files, is_reference_N
        self.rate, self.augmentation = rate, augmentation
        self.responses_RL = impulse_responses.synthesise_responses(rate)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        samples_S, own_rate = soundfile.read(self.files[index], dtype="float32")
        if own_rate != self.rate:
            samples_S = soxr.resample(samples_S, own_rate, self.rate, quality="HQ")
        probability = self.augmentation.impulse_response_probability
        if self.is_reference_N[index] and np.random.random() < probability:
            response_L = self.responses_RL[np.random.randint(len(self.responses_RL))]
            samples_S = fftconvolve(samples_S, response_L)[: len(samples_S)]
        span = self.augmentation.max_roll_samples
        rolled_S = np.roll(samples_S, np.random.randint(-span, span + 1))
        return torch.from_numpy(rolled_S.astype(np.float32))


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(N_WORKERS)
    corpus = demo.read()
    rows = [_measure(corpus, hertz, rounds) for hertz in (44_100, 32_000)]
    header = ["files", "feed, clips/s", "DataLoader, clips/s", "feed, ratio to DataLoader"]
    notes = (
        f"One epoch of the demo corpus's {len(corpus)} clips in batches of {BATCH}, with all "
        f"random changes of {RECIPE.name} and without a model. DataLoader: {N_WORKERS} workers, "
        "which stay alive between epochs, read one WAV file per clip (from the page cache), "
        "resample it to 32 kHz (TAU is published at 44.1 kHz), convolve and roll it. torchaudio's "
        "log-mel and masks, and Freq-MixStyle, follow per batch in the main process. The feed "
        "reads the decoded map; a map is decoded once, and this time is not counted. Both use "
        f"{N_WORKERS} threads and are timed by the wall clock."
    )
    table = format_table(header, rows)
    device = torch.device("cpu")
    publish("loading.py", "Feed and one-file-per-clip loading (cpu)", device, f"{table}\n\n{notes}")


def _measure(corpus: Corpus, hertz: int, rounds: int) -> list[str]:
    feed = open_feed(RECIPE, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        files = _write_files(corpus, hertz, Path(folder))
        is_reference_N = corpus.column("recording_device") == corpus.reference_device
        dataset = ClipFiles(
            files, is_reference_N, RECIPE.front_end.sample_rate, RECIPE.augmentation
        )
        loader = DataLoader(
            dataset,
            batch_size=BATCH,
            shuffle=True,
            num_workers=N_WORKERS,
            persistent_workers=True,
        )
        finish = _BatchTransform(RECIPE.front_end, RECIPE.augmentation)
        sides = {
            "feed": lambda: _run_feed_epoch(feed),
            "loader": lambda: _consume(finish(waveforms_BS) for waveforms_BS in loader),
        }
        seconds = {name: [] for name in sides}
        for _ in range(rounds + 1):
            for name, side in sides.items():
                seconds[name].append(_measure_wall_s(side))
    # The first round starts the workers and warms up, so it does not count.
    feed_s, loader_s = seconds["feed"][1:], seconds["loader"][1:]
    return [
        f"{hertz} Hz",
        f"{len(corpus) / statistics.median(feed_s):.0f}",
        f"{len(corpus) / statistics.median(loader_s):.0f}",
        f"{ratio(loader_s, feed_s):.1f}",
    ]


class _BatchTransform:
    """From a batch of waveforms to a model's input, by torchaudio's modules."""

    def __init__(self, front_end: FrontEnd, augmentation: Augmentation) -> None:
        self.front_end, self.augmentation = front_end, augmentation
        self.mel = torchaudio.transforms.MelSpectrogram(
            front_end.sample_rate,
            front_end.n_fft,
            front_end.window_samples,
            front_end.hop_samples,
            n_mels=front_end.mel_bands,
            f_max=front_end.max_hz,
        )
        self.mask = torchaudio.transforms.FrequencyMasking(
            augmentation.max_masked_bands, iid_masks=True
        )

    @torch.no_grad()
    def __call__(self, waveforms_BS: Tensor) -> Tensor:
        power_B1FT = self.mask(self.mel(waveforms_BS).unsqueeze(1))
        log_mel_B1FT = torch.log(power_B1FT + self.front_end.log_offset)
        if torch.rand(()) >= self.augmentation.mixstyle_probability:
            return log_mel_B1FT
        n_clips = len(waveforms_BS)
        return augment.freq_mixstyle(log_mel_B1FT, torch.randperm(n_clips), torch.rand(n_clips))


def _write_files(corpus: Corpus, hertz: int, folder: Path) -> list[Path]:
    """Write the corpus as WAV files at a sample rate; return their paths in its order."""
    own_rate, files = RECIPE.front_end.sample_rate, []
    decoded = waveforms.load_waveforms(corpus, own_rate)
    for row, name in enumerate(corpus.column("clip_id")):
        samples_S = decoded.samples_NS[row].astype(np.float32) / FULL_SCALE
        if hertz != own_rate:
            samples_S = soxr.resample(samples_S, own_rate, hertz, quality="HQ")
        files.append(folder / f"{name}.wav")
        soundfile.write(files[-1], samples_S, hertz, subtype="PCM_16")
    return files


def _run_feed_epoch(feed: Feed) -> None:
    randomness = np.random.default_rng()
    rows = randomness.permutation(len(feed.corpus))
    view = int(randomness.integers(1, 1_000_000))
    parts = np.split(rows, range(BATCH, len(rows), BATCH))
    _consume(feed.make_training_batch(rows_B, view, randomness) for rows_B in parts)


def _consume(batches: Iterable[Tensor]) -> None:
    for _ in batches:
        pass


def _measure_wall_s(side: Callable[[], None]) -> float:
    began = time.perf_counter()
    side()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
