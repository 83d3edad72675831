"""Compares the front-end's speed with torchaudio's and with its own Fourier transforms.

B clips in a batch, S samples of a clip, F mel bands, T frames.
"""

if __name__ == "__main__" and not __package__:
    import _root  # noqa: F401

import argparse
import statistics

import torch
import torchaudio
from torch import Tensor

from audio.cpu_log_mel import CpuLogMel
from audio.front_ends import ASCDOMAIN_CNN, ASCDOMAIN_PASST, FrontEnd
from benchmarks.results import format_table, publish, ratio, take_turns
from benchmarks.transforms import TRANSFORMS_NOTE, make_transforms

FRONT_ENDS = {"4096 points, 256 bands": ASCDOMAIN_CNN, "1024 points, 128 bands": ASCDOMAIN_PASST}
BATCHES = (16, 64)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    rows = [
        [name, str(n_clips), *_measure(front_end, n_clips, rounds)]
        for name, front_end in FRONT_ENDS.items()
        for n_clips in BATCHES
    ]
    header = [
        "front-end",
        "clips in a batch",
        "clips/s",
        "torchaudio clips/s",
        "clips/s, ratio to torchaudio",
        "time, ratio to plain transforms",
        "time, ratio to best transforms",
        "largest difference",
    ]
    notes = f"Clips of one second at 32 kHz, log-mel in float32. {TRANSFORMS_NOTE}"
    table = format_table(header, rows)
    publish("log_mel.py", "Front-end (cpu)", torch.device("cpu"), f"{table}\n\n{notes}")


@torch.no_grad()
def _measure(front_end: FrontEnd, n_clips: int, rounds: int) -> list[str]:
    waveforms_BS = 0.1 * torch.randn(n_clips, front_end.sample_rate)
    ours, theirs = CpuLogMel(front_end), _Torchaudio(front_end)
    plain, best = make_transforms(front_end, n_clips, torch.device("cpu"))
    sides = {
        "ours": lambda: ours(waveforms_BS),
        "theirs": lambda: theirs(waveforms_BS),
        "plain": plain,
        "best": best,
    }
    seconds = take_turns(sides, rounds=rounds, device=torch.device("cpu"))
    difference = (ours(waveforms_BS)[:, 0] - theirs(waveforms_BS)).abs().max()
    return [
        f"{n_clips / statistics.median(seconds['ours']):.0f}",
        f"{n_clips / statistics.median(seconds['theirs']):.0f}",
        f"{ratio(seconds['theirs'], seconds['ours']):.1f}",
        f"{ratio(seconds['ours'], seconds['plain']):.2f}",
        f"{ratio(seconds['ours'], seconds['best']):.2f}",
        f"{difference:.0e}",
    ]


class _Torchaudio:
    """The same log-mel by torchaudio's own module."""

    def __init__(self, front_end: FrontEnd) -> None:
        self.offset = front_end.log_offset
        self.mel = torchaudio.transforms.MelSpectrogram(
            front_end.sample_rate,
            front_end.n_fft,
            front_end.window_samples,
            front_end.hop_samples,
            n_mels=front_end.mel_bands,
            f_max=front_end.max_hz,
        )

    def __call__(self, waveforms_BS: Tensor) -> Tensor:
        return torch.log(self.mel(waveforms_BS) + self.offset)


if __name__ == "__main__":
    main()
