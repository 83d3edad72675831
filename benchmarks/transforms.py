"""The Fourier transforms of a front-end by themselves: what no implementation does without."""

from collections.abc import Callable

import torch

from audio.log_mel import CHUNK_BYTES, FrontEnd


def transforms(
    front_end: FrontEnd, n_clips: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Two ways to transform all frames of a batch, to be timed.

    Returns:
        One call for all frames, and the frames of a few clips at a time (on a GPU the same).
    """
    n_frames = n_clips * front_end.frames(front_end.sample_rate)
    frames = torch.randn(n_frames, front_end.n_fft, device=device)
    at_a_time = n_frames if device.type == "cuda" else CHUNK_BYTES // frames[:1].nbytes

    def plain() -> None:
        torch.fft.rfft(frames)

    def best() -> None:
        for some in frames.split(at_a_time):
            torch.fft.rfft(some)

    return plain, best
