"""The Fourier transforms of a front-end alone, which every implementation needs."""

from collections.abc import Callable

import torch

from audio.front_ends import FrontEnd
from audio.log_mel import FRAME_CHUNK_BYTES

TRANSFORMS_NOTE = (
    "Plain transforms: one call of torch.fft.rfft for all frames of the batch. Best transforms: "
    "the same for a few clips at a time."
)


def make_transforms(
    front_end: FrontEnd, n_clips: int, device: torch.device
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return two functions that transform all frames of a batch, for timing.

    Returns:
        One call for all frames, and one call for every few clips (on a GPU, also one call for all).
    """
    n_frames = n_clips * front_end.count_frames(front_end.sample_rate)
    frames = torch.randn(n_frames, front_end.n_fft, device=device)
    at_a_time = n_frames if device.type == "cuda" else FRAME_CHUNK_BYTES // frames[:1].nbytes

    def plain() -> None:
        torch.fft.rfft(frames)

    def best() -> None:
        for some in frames.split(at_a_time):
            torch.fft.rfft(some)

    return plain, best
