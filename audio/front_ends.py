"""Front-ends: the settings that decide how a waveform becomes a log-mel spectrogram.

This module only describes them and imports no torch; `audio.log_mel` computes. The constants below
are published front-ends; their comments give the shape CxFxT (channels, mel bands, frames) for 1 s.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

MelBank = Literal["htk", "htk_slaney_norm", "htk_unit_sum", "kaldi"]
Window = Literal["periodic", "symmetric"]
Log = Literal["ln", "log10"]

_CHOICES = {"mel_bank": get_args(MelBank), "window": get_args(Window), "log": get_args(Log)}


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontEnd:
    """All settings that decide which log-mel spectrogram a waveform becomes."""

    sample_rate: int
    """Sample rate of the waveforms in Hz."""
    n_fft: int
    """Length of the Fourier transform in samples, even."""
    window_samples: int
    """Length of the Hann window, which is centred in the transform."""
    hop_samples: int
    """Distance between the centres of two successive frames."""
    mel_bands: int
    """Number of triangular filters, at least 4."""
    min_hz: float = 0.0
    """Lower edge of the lowest triangle."""
    max_hz: float
    """Upper edge of the highest triangle, at most half the sample rate."""
    mel_bank: MelBank = "htk"
    """`htk`: triangles linear in Hz; `htk_slaney_norm`: the same, each of unit area; `htk_unit_sum`: the
    same, the weights of each adding up to 1; `kaldi`: triangles linear in mel, which leave out the bin
    at half the sample rate."""
    deaf_bands: int = 0
    """Number of the lowest triangles that lie between two bins and are always 0, as in some
    published front-ends; a bank with any other number of them is refused."""
    window: Window = "periodic"
    """`periodic`: the Hann window ends one sample before it would repeat; `symmetric`: on its zero."""
    pre_emphasis: float | None = None
    """The a of y[n] = x[n + 1] - a x[n], one sample shorter than x; None leaves the waveform alone."""
    log: Log = "ln"
    """Natural or decimal logarithm."""
    log_offset: float = 1e-5
    """Added to the power before the logarithm."""
    shift: float = 0.0
    """Added to the logarithm, before it is divided by `scale`."""
    scale: float = 1.0
    """Divides the shifted logarithm."""
    standardise: bool = False
    """Whether each channel of each clip is normalised to mean 0 and standard deviation 1."""
    delta: bool = False
    """Whether the slope over five frames is added as a second channel."""

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_transform()
        self._check_bank()
        self._check_level()

    @property
    def channels(self) -> int:
        """Number of channels: 1, or 2 with the delta channel."""
        return 2 if self.delta else 1

    def count_frames(self, n_samples: int) -> int:
        """Return the number of frames of a clip with `n_samples` samples.

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

    def compute_shape(self, n_samples: int) -> tuple[int, int, int]:
        """Return (C, F, T) for a clip with `n_samples` samples."""
        return self.channels, self.mel_bands, self.count_frames(n_samples)

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
"""AudioSet pretraining of MobileNet, DyMN and PaSST, as evaluated (EfficientAT, PaSST): 1x128x100."""

CPJKU23_PASST = replace(AUDIOSET, max_hz=15_500.0)
"""PaSST teachers of CP-JKU's DCASE 2023 entry (cpjku_dcase23), as evaluated: 1x128x100."""

CP_MOBILE = replace(CPJKU23_PASST, n_fft=4096, window_samples=3072, hop_samples=500, mel_bands=256)
"""CP-Mobile students of 2023 (cpjku_dcase23), as evaluated: 1x256x64."""

CPJKU23_CP_RESNET = replace(CP_MOBILE, hop_samples=750)
"""CP-ResNet teachers of CP-JKU's DCASE 2023 entry (cpjku_dcase23), as evaluated: 1x256x43."""

ASCDOMAIN_CNN = FrontEnd(
    sample_rate=32_000,
    n_fft=4096,
    window_samples=3072,
    hop_samples=500,
    mel_bands=256,
    max_hz=16_000.0,
)
"""Convolutional teachers and students of ASCDomain, and the DCASE 2024 task 1 baseline: 1x256x65."""

ASCDOMAIN_PASST = replace(
    ASCDOMAIN_CNN, n_fft=1024, window_samples=800, hop_samples=320, mel_bands=128
)
"""PaSST teachers of ASCDomain: 1x128x101."""

DSMN_FRONT_END = FrontEnd(
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
"""Deep space separable distillation (DSMN_dcase2023): 2x256x44."""

TF_SEPNET_40 = replace(CP_MOBILE, max_hz=16_000.0)
"""TF-SepNet of 2024 (Cai, ICASSP), as evaluated: 1x256x64."""

TF_SEPNET = replace(TF_SEPNET_40, mel_bands=512)
"""TF-SepNet's entry to DCASE 2024 (easy_dcase_task1), as evaluated: 1x512x64."""

CNN_GRU = FrontEnd(
    sample_rate=44_100,
    n_fft=8192,
    window_samples=8192,
    hop_samples=1364,
    mel_bands=256,
    max_hz=22_050.0,
)
"""CNN-GRU's entry to DCASE 2025 (SNTL-NTU): 1x256x33."""

BCBL_44K = replace(ASCDOMAIN_CNN, sample_rate=44_100, max_hz=22_050.0)
"""24-BCBL without resampling (NTU's DCASE 2024 entry): 1x256x89."""

AISFX = FrontEnd(
    sample_rate=44_100,
    n_fft=2048,
    window_samples=2048,
    hop_samples=1024,
    mel_bands=96,
    max_hz=22_050.0,
    mel_bank="htk_unit_sum",
    log="log10",
    log_offset=1e-4,
    shift=4.0,
    scale=9.4578,
)
"""aiSFX (Ma and Lerch 2022): log10(10,000 x + 1) / 9.4578 of the power x: 1x96x44."""
