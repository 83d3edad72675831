"""From waveforms to log-mel spectrograms.

B clips, S samples, Q bins of the transform, C channels, F mel bands, T frames.
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import melscale_fbanks

MelBank = Literal["htk", "htk_slaney_norm", "kaldi"]
Window = Literal["periodic", "symmetric"]
Log = Literal["ln", "log10"]

BANDS_PER_BLOCK = 16
"""Mel bands that share one product with the bins that they hear. Measured: 0.10 ms a clip of the
published 256 bands; 0.12 ms in blocks of 32 bands, 1.0 ms for the whole bank at once."""
CHUNK_BYTES = 2 * 1024**2
"""Windowed frames that a CPU thread transforms at a time: small enough for its cache, and for the
allocator to hand out the same memory again. Measured: 0.5 ms a clip, 1.2 ms for 256 clips at once."""

_CHOICES = {
    "mel_bank": ("htk", "htk_slaney_norm", "kaldi"),
    "window": ("periodic", "symmetric"),
    "log": ("ln", "log10"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEnd:
    """All that decides which log-mel spectrogram a waveform becomes."""

    sample_rate: int
    """Of the waveforms, in Hz."""
    n_fft: int
    """Length of the transform in samples, even."""
    window_samples: int
    """Length of the Hann window, which stands in the middle of the transform."""
    hop_samples: int
    """From the centre of one frame to the centre of the next."""
    mel_bands: int
    """Number of triangular filters, at least 4."""
    min_hz: float = 0.0
    """Where the lowest triangle begins."""
    max_hz: float
    """Where the highest triangle ends, at most half the sample rate."""
    mel_bank: MelBank = "htk"
    """`htk`: triangles linear in Hz; `htk_slaney_norm`: the same, each of unit area; `kaldi`: triangles
    linear in mel, nothing from the bin at half the sample rate."""
    deaf_bands: int = 0
    """So many of the lowest triangles lie between two bins and never hear anything, as in some
    published front-ends; a front-end with any other number of them is refused."""
    window: Window = "periodic"
    """Whether the Hann window ends one sample before it would repeat, or on its zero."""
    pre_emphasis: float | None = None
    """The a of y[n] = x[n + 1] - a x[n], one sample shorter than x; None leaves the waveform alone."""
    log: Log = "ln"
    """The logarithm that is taken."""
    log_offset: float = 1e-5
    """Added to the power before the logarithm."""
    shift: float = 0.0
    """Added to the logarithm, before the scale."""
    scale: float = 1.0
    """Divides the shifted logarithm."""
    standardise: bool = False
    """Whether each channel of each clip is brought to mean 0 and standard deviation 1."""
    delta: bool = False
    """Whether the slope over five frames follows as a second channel."""

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_transform()
        self._check_bank()
        self._check_level()

    @property
    def channels(self) -> int:
        """1, or 2 with the delta channel."""
        return 2 if self.delta else 1

    def frames(self, n_samples: int) -> int:
        """Frames of a clip of so many samples.

        Raises:
            ValueError: The clip is too short to be mirrored at its ends.
        """
        usable = n_samples - (self.pre_emphasis is not None)
        if usable <= self.n_fft // 2:
            raise ValueError(
                f"a clip of {n_samples} samples is too short for n_fft={self.n_fft}: more than "
                f"{self.n_fft // 2 + n_samples - usable} samples are needed; "
                "give longer clips or a front-end with a shorter transform"
            )
        return 1 + usable // self.hop_samples

    def shape(self, n_samples: int) -> tuple[int, int, int]:
        """(C, F, T) of a clip of so many samples."""
        return self.channels, self.mel_bands, self.frames(n_samples)

    def _check_choices(self) -> None:
        for field, allowed in _CHOICES.items():
            if getattr(self, field) not in allowed:
                _refuse(field, getattr(self, field), "one of " + ", ".join(allowed))

    def _check_transform(self) -> None:
        if self.sample_rate < 1:
            _refuse("sample_rate", self.sample_rate, "at least 1 Hz")
        if self.n_fft < 2 or self.n_fft % 2:
            _refuse("n_fft", self.n_fft, "an even number of samples, at least 2")
        if not 1 <= self.window_samples <= self.n_fft:
            _refuse("window_samples", self.window_samples, f"between 1 and n_fft={self.n_fft}")
        if self.hop_samples < 1:
            _refuse("hop_samples", self.hop_samples, "at least 1")
        if self.pre_emphasis is not None and not 0 < self.pre_emphasis <= 1:
            _refuse("pre_emphasis", self.pre_emphasis, "above 0 and at most 1, or None for none")

    def _check_bank(self) -> None:
        if self.mel_bands < 4:
            _refuse("mel_bands", self.mel_bands, "at least 4")
        if not 0 <= self.min_hz < self.max_hz:
            _refuse("min_hz", self.min_hz, f"from 0 to below max_hz={self.max_hz}")
        if not self.max_hz <= self.sample_rate / 2:
            _refuse("max_hz", self.max_hz, f"at most half of sample_rate={self.sample_rate}")

    def _check_level(self) -> None:
        if not (self.log_offset > 0 and math.isfinite(self.log_offset)):
            _refuse("log_offset", self.log_offset, "a finite number above 0")
        if not math.isfinite(self.shift):
            _refuse("shift", self.shift, "a finite number")
        if not (self.scale > 0 and math.isfinite(self.scale)):
            _refuse("scale", self.scale, "a finite number above 0")
        if self.standardise and (self.shift, self.scale) != (0.0, 1.0):
            raise ValueError(
                f"FrontEnd: shift={self.shift!r} and scale={self.scale!r} have no effect with "
                "standardise=True; leave them at 0 and 1, or standardise off"
            )


def _refuse(field: str, value: object, expected: str) -> None:
    raise ValueError(f"FrontEnd: {field}={value!r}, expected {expected}")


AUDIOSET = FrontEnd(
    sample_rate=32_000,
    n_fft=1024,
    window_samples=800,
    hop_samples=320,
    mel_bands=128,
    max_hz=15_000.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
"""AudioSet pretraining of MobileNet, DyMN and PaSST, as evaluated (EfficientAT, PaSST): 1x128x100 for 1 s."""

CPJKU23_PASST = FrontEnd(
    sample_rate=32_000,
    n_fft=1024,
    window_samples=800,
    hop_samples=320,
    mel_bands=128,
    max_hz=15_500.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
"""PaSST teachers of CP-JKU's DCASE 2023 entry (cpjku_dcase23), as evaluated: 1x128x100 for 1 s."""

CPJKU23_CP_RESNET = FrontEnd(
    sample_rate=32_000,
    n_fft=4096,
    window_samples=3072,
    hop_samples=750,
    mel_bands=256,
    max_hz=15_500.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
"""CP-ResNet teachers of CP-JKU's DCASE 2023 entry (cpjku_dcase23), as evaluated: 1x256x43 for 1 s."""

ASCDOMAIN_CNN = FrontEnd(
    sample_rate=32_000,
    n_fft=4096,
    window_samples=3072,
    hop_samples=500,
    mel_bands=256,
    max_hz=16_000.0,
)
"""Convolutional teachers and students of ASCDomain, and the DCASE 2024 task 1 baseline: 1x256x65 for 1 s."""

ASCDOMAIN_PASST = FrontEnd(
    sample_rate=32_000,
    n_fft=1024,
    window_samples=800,
    hop_samples=320,
    mel_bands=128,
    max_hz=16_000.0,
)
"""PaSST teachers of ASCDomain: 1x128x101 for 1 s."""

CP_MOBILE = FrontEnd(
    sample_rate=32_000,
    n_fft=4096,
    window_samples=3072,
    hop_samples=500,
    mel_bands=256,
    max_hz=15_500.0,
    mel_bank="kaldi",
    window="symmetric",
    pre_emphasis=0.97,
    shift=4.5,
    scale=5.0,
)
"""CP-Mobile students of 2023 (cpjku_dcase23), as evaluated: 1x256x64 for 1 s."""

DSMN = FrontEnd(
    sample_rate=44_100,
    n_fft=4096,
    window_samples=4096,
    hop_samples=1024,
    mel_bands=256,
    max_hz=22_050.0,
    mel_bank="htk_slaney_norm",
    log="log10",
    log_offset=1e-10,
    standardise=True,
    delta=True,
)
"""Deep space separable distillation (DSMN_dcase2023): 2x256x44 for 1 s."""

BCBL_44K = FrontEnd(
    sample_rate=44_100,
    n_fft=4096,
    window_samples=3072,
    hop_samples=500,
    mel_bands=256,
    max_hz=22_050.0,
)
"""24-BCBL without resampling (NTU's DCASE 2024 entry): 1x256x89 for 1 s."""


class LogMel(nn.Module):
    """Waveforms to log-mel spectrograms, batched, on the device that the module is on.

    The two halves can be called one after the other, to change the linear mel in between.
    """

    window: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end
        # The recipe makes both again: a checkpoint holds what was learnt, nothing else.
        self.register_buffer("window", _centred_hann(front_end), persistent=False)
        blocks = list(_blocks(mel_bank(front_end)))
        self._bins = [bins for bins, _ in blocks]
        for index, (_, block_QF) in enumerate(blocks):
            self.register_buffer(f"bank_{index}", block_QF, persistent=False)

    def forward(self, waveforms_BS: Tensor) -> Tensor:
        """Log-mel spectrograms (B, C, F, T) of waveforms within -1...1."""
        return self.compress(self.power_mel(waveforms_BS))

    def power_mel(self, waveforms_BS: Tensor) -> Tensor:
        """Linear mel power (B, F, T), lowest band first.

        Raises:
            ValueError: Not a batch of floating-point waveforms, or the clips are too short.
        """
        if waveforms_BS.ndim != 2 or not waveforms_BS.is_floating_point():
            raise ValueError(
                f"waveforms are {waveforms_BS.dtype} of shape {tuple(waveforms_BS.shape)}, expected "
                "floating point (clips, samples) within -1...1; divide int16 by 32768"
            )
        n_frames = self.front_end.frames(waveforms_BS.shape[1])
        # Mel power reaches 1e6: the product with the bank would overflow in half precision.
        with torch.autocast(waveforms_BS.device.type, enabled=False):
            waveforms_BS = waveforms_BS.to(self.window.dtype)
            chunks = waveforms_BS.split(self._clips_at_a_time(waveforms_BS, n_frames))
            # Joined in the order in which they lie in memory: three times as fast as turned round.
            return torch.cat([self._power_mel(chunk_BS) for chunk_BS in chunks]).transpose(1, 2)

    def compress(self, power_BFT: Tensor) -> Tensor:
        """Logarithm, normalisation and delta channel of mel power: (B, C, F, T)."""
        front_end = self.front_end
        with torch.autocast(power_BFT.device.type, enabled=False):
            # The sum is this function's own, so its logarithm may take its place.
            log_mel_BFT = power_BFT + front_end.log_offset
            log_mel_BFT = log_mel_BFT.log_() if front_end.log == "ln" else log_mel_BFT.log10_()
            if (front_end.shift, front_end.scale) != (0.0, 1.0):
                log_mel_BFT = (log_mel_BFT + front_end.shift) / front_end.scale
            log_mel_BCFT = log_mel_BFT.unsqueeze(1)
            if front_end.delta:
                log_mel_BCFT = torch.stack([log_mel_BFT, _slope(log_mel_BFT)], dim=1)
            return _standardise(log_mel_BCFT) if front_end.standardise else log_mel_BCFT

    def _clips_at_a_time(self, waveforms_BS: Tensor, n_frames: int) -> int:
        """All of them on a GPU, which wants much work at once; on a CPU what its cache holds."""
        if waveforms_BS.device.type != "cpu":
            return max(1, len(waveforms_BS))
        clip_bytes = n_frames * self.front_end.n_fft * waveforms_BS.element_size()
        return max(1, torch.get_num_threads() * CHUNK_BYTES // clip_bytes)

    def _power_mel(self, waveforms_BS: Tensor) -> Tensor:
        """Mel power (B, T, F), the order in which the transform leaves it."""
        front_end = self.front_end
        if front_end.pre_emphasis is not None:
            waveforms_BS = waveforms_BS[:, 1:] - front_end.pre_emphasis * waveforms_BS[:, :-1]
        half = front_end.n_fft // 2
        mirrored_BS = functional.pad(waveforms_BS, (half, half), mode="reflect")
        frames = mirrored_BS.unfold(1, front_end.n_fft, front_end.hop_samples) * self.window
        n_clips, n_frames, _ = frames.shape
        # Squared where they lie side by side: parts that are taken apart before cost a CPU more.
        squares_Q2 = torch.view_as_real(torch.fft.rfft(frames.flatten(0, 1))).square()
        power_Q = squares_Q2[..., 0] + squares_Q2[..., 1]
        blocks = [
            power_Q[:, bins] @ self.get_buffer(f"bank_{index}")
            for index, bins in enumerate(self._bins)
        ]
        return torch.cat(blocks, dim=1).view(n_clips, n_frames, -1)


def mel_bank(front_end: FrontEnd) -> Tensor:
    """The filterbank (F, Q), float32, lowest band first.

    Raises:
        ValueError: More bands than it says lie between two bins and would never hear anything.
    """
    bank_FQ = _kaldi_bank(front_end) if front_end.mel_bank == "kaldi" else _htk_bank(front_end)
    deaf = int((bank_FQ.amax(dim=1) == 0).sum())
    if deaf != front_end.deaf_bands:
        raise ValueError(
            f"{deaf} of mel_bands={front_end.mel_bands} bands hold no bin of n_fft={front_end.n_fft} "
            f"at {front_end.sample_rate} Hz, expected deaf_bands={front_end.deaf_bands}; use fewer "
            "mel_bands or a longer n_fft"
        )
    return bank_FQ


def _blocks(bank_FQ: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some bands at a time, (Q, F), with the bins that they hear: the matrix is a narrow band."""
    for block_FQ in bank_FQ.split(BANDS_PER_BLOCK):
        heard = block_FQ.any(dim=0).nonzero()
        bins = slice(int(heard[0]), int(heard[-1]) + 1)
        yield bins, block_FQ[:, bins].T.contiguous()


def _kaldi_bank(front_end: FrontEnd) -> Tensor:
    bank, _ = get_mel_banks(
        front_end.mel_bands,
        front_end.n_fft,
        front_end.sample_rate,
        front_end.min_hz,
        front_end.max_hz,
        # Vocal tract length normalisation, which a factor of 1 switches off.
        vtln_low=100.0,
        vtln_high=-500.0,
        vtln_warp_factor=1.0,
    )
    return functional.pad(bank, (0, 1))


def _htk_bank(front_end: FrontEnd) -> Tensor:
    with warnings.catch_warnings():
        # What it warns of is an error here, raised by the caller for every kind of bank.
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero")
        bank_QF = melscale_fbanks(
            front_end.n_fft // 2 + 1,
            front_end.min_hz,
            front_end.max_hz,
            front_end.mel_bands,
            front_end.sample_rate,
            norm="slaney" if front_end.mel_bank == "htk_slaney_norm" else None,
            mel_scale="htk",
        )
    return bank_QF.T.contiguous()


def _centred_hann(front_end: FrontEnd) -> Tensor:
    """The window with zeros up to the transform's length on both sides."""
    periodic = front_end.window == "periodic"
    window = torch.hann_window(front_end.window_samples, periodic=periodic)
    before = (front_end.n_fft - front_end.window_samples) // 2
    after = front_end.n_fft - front_end.window_samples - before
    return functional.pad(window, (before, after))


def _slope(log_mel_BFT: Tensor) -> Tensor:
    # Least squares over five frames: sum over k = -2...2 of k x[t + k], divided by sum of k^2 = 10.
    padded = functional.pad(log_mel_BFT, (2, 2), mode="replicate")
    n_frames = log_mel_BFT.shape[-1]
    at = [padded.narrow(-1, offset, n_frames) for offset in range(5)]
    return (2 * (at[4] - at[0]) + (at[3] - at[1])) / 10


def _standardise(log_mel_BCFT: Tensor) -> Tensor:
    centred = log_mel_BCFT - log_mel_BCFT.mean(dim=(2, 3), keepdim=True)
    n_values = log_mel_BCFT.shape[2] * log_mel_BCFT.shape[3]
    # torch.std says the same in one call, and takes a CPU six times as long.
    spread = (centred.square().sum(dim=(2, 3), keepdim=True) / (n_values - 1)).sqrt()
    # Digital silence has no spread, only rounding: the floor keeps it near 0 and touches no sound.
    return centred / spread.clamp_min(1e-3)
