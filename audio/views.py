"""Views: random changes of clips that are the same on every machine (B clips in a batch).

View 0 is the untouched clip. View v of a clip is a pure function of the corpus, the clip's row and
v. So a teacher can store its logits for view v, and a student sees exactly that view together with
those soft labels. Nothing here depends on a batch, on a process or on the order of calls.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

VIEWS_PER_SEED = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """The random changes that a clip may go through before a model sees it; 0 switches one off."""

    max_roll_samples: int = 0
    """Circular shift by a uniform integer of up to this many samples in either direction."""
    impulse_response_probability: float = 0.0
    """Share of the reference device's clips that get another device's impulse response."""
    max_masked_bands: int = 0
    """Frequency mask, whose width is uniform below this number of mel bands."""
    max_masked_frames: int = 0
    """Time mask, whose width is uniform below this number of frames."""
    mixstyle_probability: float = 0.0
    """Share of the batches in which Freq-MixStyle mixes the band statistics of clips."""
    mixstyle_alpha: float = 0.3
    """Both parameters of the Beta distribution of the mixing weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpectrumModulation(Augmentation):
    """These changes, and in some training batches the colour of another recording device.

    A class of its own, so that recipes without it keep the fingerprint that they had. Source: DSMN_dcase2023,
    with the devices that it means; see `audio.modulation`.
    """

    modulation_probability: float = 12 / 13
    """Share of the batches in which the reference device's clips get the colour of another device: with
    13 differences of which the first is none, as published."""


ASCDOMAIN = Augmentation(
    max_roll_samples=3200,
    impulse_response_probability=0.6,
    max_masked_bands=48,
    mixstyle_probability=0.4,
    mixstyle_alpha=0.3,
)
"""Used for ASCDomain's students and MobileNet teachers, with clips at 32 kHz and 256 bands."""

STORED_ROLL_S = 0.1
"""Longest circular shift in stored views."""


def stored_views(sample_rate: int) -> Augmentation:
    """Return the augmentation of the views whose logits are stored.

    It is the same for every member, whatever the member was trained with, so all members of a
    corpus have seen the same view v and can teach it together. Rolls and impulse responses are
    ASCDomain's. There are no masks: they apply to a model's own spectrogram and would only hide
    part of the clip that the model has to classify.
    """
    return Augmentation(
        max_roll_samples=round(STORED_ROLL_S * sample_rate),
        impulse_response_probability=ASCDOMAIN.impulse_response_probability,
    )


@dataclass(frozen=True, slots=True)
class Changes:
    """The random changes in one view of a batch: integer arrays [B]."""

    roll_B: np.ndarray
    response_B: np.ndarray
    """Index of the impulse response; -1 means none."""
    band_start_B: np.ndarray
    band_width_B: np.ndarray
    frame_start_B: np.ndarray
    frame_width_B: np.ndarray
    crop_B: np.ndarray
    """First sample of the window that is cropped from a longer clip."""

    def select(self, part: slice) -> "Changes":
        """Return the changes of a part of the batch."""
        return Changes(*(getattr(self, name)[part] for name in Changes.__slots__))


def join_changes(parts: Sequence[tuple[np.ndarray, Changes]]) -> Changes:
    """Return the changes of a batch from those of its parts, each with its clips' places in the batch."""
    order_B = np.argsort(np.concatenate([places for places, _ in parts]))
    return Changes(
        *(
            np.concatenate([getattr(changes, name) for _, changes in parts])[order_B]
            for name in Changes.__slots__
        )
    )


def training_view(seed: int, epoch: int) -> int:
    """Return the view that a run with this seed uses in this epoch: never 0 or another seed's."""
    return 1 + seed * VIEWS_PER_SEED + epoch


def draw_changes(
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
    """Return the changes that `view` makes to these clips.

    Args:
        augmentation: Which changes may happen.
        corpus: Name of the corpus, which the changes depend on.
        rows_B: Rows of the clips.
        view: The view; 0 leaves all clips untouched.
        reference_B: Whether each clip was recorded by the reference device, bool.
        n_responses: Number of impulse responses to choose from.
        n_bands: Number of mel bands of the front-end.
        n_frames: Number of frames of the front-end.
        spare_samples: How many samples longer a clip is than the window that is cropped from it;
            view 0 gets the middle window.
    """
    nothing = np.zeros(len(rows_B), dtype=np.int64)
    if view == 0:
        middle = nothing + spare_samples // 2
        return Changes(nothing, nothing - 1, nothing, nothing, nothing, nothing, middle)

    def uniform(purpose: str) -> np.ndarray:
        return _uniform(f"{corpus}/{purpose}", rows_B, view)

    def below(limit: int | np.ndarray, purpose: str) -> np.ndarray:
        # Nothing is drawn where there is no choice: a draw takes as long as a mask.
        if isinstance(limit, int) and limit <= 1:
            return nothing
        return np.floor(uniform(purpose) * limit).astype(np.int64)

    span, response_B = augmentation.max_roll_samples, nothing - 1
    if augmentation.impulse_response_probability > 0:
        coloured_B = reference_B & (uniform("coloured") < augmentation.impulse_response_probability)
        response_B = np.where(coloured_B, below(n_responses, "response"), -1)
    band_width_B = below(augmentation.max_masked_bands, "band width")
    frame_width_B = below(augmentation.max_masked_frames, "frame width")
    return Changes(
        roll_B=below(2 * span + 1, "roll") - span,
        response_B=response_B,
        band_start_B=below(n_bands - band_width_B, "band"),
        band_width_B=band_width_B,
        frame_start_B=below(n_frames - frame_width_B, "frame"),
        frame_width_B=frame_width_B,
        crop_B=below(spare_samples + 1, "crop"),
    )


def _uniform(purpose: str, rows_B: np.ndarray, view: int) -> np.ndarray:
    """Return numbers in [0, 1) that depend only on the arguments, float64 [B]."""
    key = np.frombuffer(hashlib.sha256(purpose.encode()).digest()[:8], dtype="<u8")
    state = _scramble(key ^ np.uint64(view))
    bits = _scramble(_scramble(state) ^ rows_B.astype(np.uint64))
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(state: np.ndarray) -> np.ndarray:
    """Apply one step of SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195, fig. 12)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
