"""(clip, view) -> the same random change, on every machine, always.

Dimensions: B clips in a batch.

View 0 is the untouched clip. View v of a clip is a pure function of the corpus, the clip's row and
v: so a teacher can store its logits of view v, and a student sees exactly that view with exactly
those soft labels. Nothing here depends on a batch, on a process or on the order of calls.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

VIEWS_PER_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """What may happen to a clip before a model sees it. Zero is off."""

    max_roll_samples: int = 0
    """Circular shift by a uniform integer of up to so many samples, either way."""
    impulse_response_probability: float = 0.0
    """Share of the reference device's clips that get another device's impulse response."""
    max_masked_bands: int = 0
    """Frequency mask: its width is uniform below this number of mel bands."""
    max_masked_frames: int = 0
    """Time mask: its width is uniform below this number of frames."""
    mixstyle_probability: float = 0.0
    """Share of the batches whose frequency statistics are mixed between clips."""
    mixstyle_alpha: float = 0.3
    """Both parameters of the Beta distribution that mixing weights are drawn from."""


ASCDOMAIN = Augmentation(
    max_roll_samples=3200,
    impulse_response_probability=0.6,
    max_masked_bands=48,
    mixstyle_probability=0.4,
    mixstyle_alpha=0.3,
)
"""Of ASCDomain's students and of its MobileNet teachers, for clips at 32 kHz and 256 bands."""


STORED_ROLL_S = 0.1


def stored_views(sample_rate: int) -> Augmentation:
    """What happens to clips in the views whose logits are stored.

    The same for every member, whatever it learnt with: so all members of a corpus have heard the
    same view v, and can teach it together. Rolls and impulse responses are ASCDomain's; no masks,
    which lie on a model's own spectrogram and would only hide from it what it is asked about.
    """
    return Augmentation(
        max_roll_samples=round(STORED_ROLL_S * sample_rate),
        impulse_response_probability=ASCDOMAIN.impulse_response_probability,
    )


@dataclass(frozen=True, slots=True)
class Changes:
    """The random changes of one view of a batch: integer arrays [B]."""

    roll_B: np.ndarray
    response_B: np.ndarray
    """Index of the impulse response; -1 leaves the clip as it is."""
    band_start_B: np.ndarray
    band_width_B: np.ndarray
    frame_start_B: np.ndarray
    frame_width_B: np.ndarray
    crop_B: np.ndarray
    """First sample of the window that is cut out of a longer clip."""

    def only(self, part: slice) -> "Changes":
        """Those of a part of the batch."""
        return Changes(*(getattr(self, name)[part] for name in Changes.__slots__))


def training_view(seed: int, epoch: int) -> int:
    """The view that a run with this seed sees in this epoch: never 0, never another seed's."""
    return 1 + seed * VIEWS_PER_SEED + epoch


def draw(
    augmentation: Augmentation,
    corpus: str,
    rows_B: np.ndarray,
    view: int,
    *,
    reference_B: np.ndarray,
    n_responses: int,
    n_bands: int,
    n_frames: int,
    spare_samples: int = 0,
) -> Changes:
    """The changes that view `view` makes to these clips.

    Args:
        augmentation: what may happen.
        corpus: name of the corpus, which the changes depend on.
        rows_B: rows of the clips.
        view: 0 leaves all clips untouched.
        reference_B: whether a clip is of the reference device, bool.
        n_responses: impulse responses to choose from.
        n_bands: mel bands of the front-end.
        n_frames: frames of the front-end.
        spare_samples: how much longer a clip is than the window that is cut out of it; view 0 gets
            the middle.
    """
    nothing = np.zeros(len(rows_B), dtype=np.int64)
    if view == 0:
        middle = nothing + spare_samples // 2
        return Changes(nothing, nothing - 1, nothing, nothing, nothing, nothing, middle)

    def uniform(purpose: str) -> np.ndarray:
        return _uniform(f"{corpus}/{purpose}", rows_B, view)

    span = augmentation.max_roll_samples
    coloured_B = reference_B & (uniform("coloured") < augmentation.impulse_response_probability)
    response_B = np.floor(uniform("response") * n_responses).astype(np.int64)
    band_width_B = np.floor(uniform("band width") * augmentation.max_masked_bands)
    frame_width_B = np.floor(uniform("frame width") * augmentation.max_masked_frames)
    return Changes(
        roll_B=np.floor(uniform("roll") * (2 * span + 1)).astype(np.int64) - span,
        response_B=np.where(coloured_B, response_B, -1),
        band_start_B=np.floor(uniform("band") * (n_bands - band_width_B)).astype(np.int64),
        band_width_B=band_width_B.astype(np.int64),
        frame_start_B=np.floor(uniform("frame") * (n_frames - frame_width_B)).astype(np.int64),
        frame_width_B=frame_width_B.astype(np.int64),
        crop_B=np.floor(uniform("crop") * (spare_samples + 1)).astype(np.int64),
    )


def _uniform(purpose: str, rows_B: np.ndarray, view: int) -> np.ndarray:
    """Numbers in [0, 1) that depend on nothing but the arguments, float64."""
    key = np.frombuffer(hashlib.sha256(purpose.encode()).digest()[:8], dtype="<u8")
    state = _scramble(key ^ np.uint64(view))
    bits = _scramble(_scramble(state) ^ rows_B.astype(np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(state: np.ndarray) -> np.ndarray:
    """One step of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195, fig. 12)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
