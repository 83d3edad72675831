"""What frozen networks say of clips, as something that a student's features learn to predict.

Dimensions: V views, N clips of the corpus, L clips that are learnt from, B clips in a batch,
D features of the student, E dimensions of all embeddings side by side.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from students.errors import UnfitSoftLabels

CLIPS_AT_A_TIME = 4_096
"""Clips that are standardised at a time: of 10,000 dimensions they take 330 MB."""


@dataclass(frozen=True, eq=False, slots=True)
class TeacherEmbeddings:
    """Embeddings of the clips that a student learns from."""

    names: tuple[str, ...]
    """Names in the store of the embeddings of view 0, which stand side by side in this order."""
    rows: np.ndarray
    """Rows of the clips in the corpus that is learnt, ascending, int64 [L]."""
    values: np.ndarray
    """Of the untouched clips [L, E], or of views 0 to V - 1 [V, L, E]; floats of any width."""


class FeatureTarget(nn.Module):
    """A projection of a student's features to embeddings, and the loss by which both learn.

    It is trained beside the student and thrown away: the student costs nothing more. Source: Romero et
    al. 2015, arXiv:1412.6550, eq. 3, with a linear regressor. OURS: it regresses the pooled features;
    each dimension of the embeddings is standardised over the clips that are given, so that
    no network outweighs another one beside it; and the mean over dimensions instead of half the sum.

    Args:
        n_features: D.
        embeddings: the embeddings of at least the clips that are learnt from.
        n_clips: N.
        learnt: rows of the clips that are learnt from.
        n_views: V, the number of views that the student sees; 1 if it learns from untouched clips.

    Raises:
        UnfitSoftLabels: another number of clips or views, or embeddings that are not finite or are
            equal for all clips.
    """

    target_VLE: Tensor
    place_N: Tensor

    def __init__(
        self,
        n_features: int,
        embeddings: TeacherEmbeddings,
        n_clips: int,
        learnt: np.ndarray,
        n_views: int = 1,
    ) -> None:
        super().__init__()
        target_VLE = _standardise(embeddings, n_views)
        place_N = np.full(n_clips, -1, np.int64)
        place_N[embeddings.rows] = np.arange(len(embeddings.rows))
        lacking = learnt[place_N[learnt] < 0]
        if len(lacking):
            raise UnfitSoftLabels(
                f"embeddings {' and '.join(embeddings.names)} lack row {lacking[0]} and {len(lacking) - 1} "
                "more of the clips that the student learns from: compute them again"
            )
        # Not persistent: the store has the embeddings, so a checkpoint does not need them.
        self.register_buffer("target_VLE", torch.from_numpy(target_VLE), persistent=False)
        self.register_buffer("place_N", torch.from_numpy(place_N), persistent=False)
        self.projection = nn.Linear(n_features, target_VLE.shape[2])

    def look_up(self, view: int, rows_B: Tensor) -> Tensor:
        """Return the standardised embeddings of clips in a view, [B, E]; of untouched clips if only these exist."""
        place_B = self.place_N.index_select(0, rows_B)
        return (
            self.target_VLE[view if len(self.target_VLE) > 1 else 0]
            .index_select(0, place_B)
            .float()
        )

    def compute_loss(self, features_BD: Tensor, target_BE: Tensor) -> Tensor:
        """Return the mean squared error of the projected features, a scalar."""
        return (self.projection(features_BD).float() - target_BE).square().mean()


def _standardise(embeddings: TeacherEmbeddings, n_views: int) -> np.ndarray:
    """Return the embeddings [V, L, E] with mean 0 and variance 1 over clips and views, float16.

    A dimension that is the same for all clips has nothing to be predicted and is left out.
    """
    given = embeddings.values
    given_VLE = given if given.ndim == 3 else given[None]
    name = " and ".join(embeddings.names)
    if given_VLE.shape[:2] != (n_views, len(embeddings.rows)):
        raise UnfitSoftLabels(
            f"embeddings {name} have shape {given.shape} (views, clips, dimensions), expected {n_views} "
            f"view(s) of {len(embeddings.rows)} clips"
        )
    mean_E, spread_E = _measure(given_VLE)
    if not np.isfinite(spread_E).all():
        raise UnfitSoftLabels(f"embeddings {name} are not finite: compute them again")
    # float16 has eleven bits: a smaller spread is its rounding.
    varied = np.flatnonzero(spread_E > 1e-3 * np.abs(mean_E) + 1e-6)
    if len(varied) == 0:
        raise UnfitSoftLabels(
            f"embeddings {name} are the same for all {len(embeddings.rows)} clips: there is nothing to predict"
        )
    target_VLE = np.empty((*given_VLE.shape[:2], len(varied)), np.float16)
    for given_LE, target_LE in zip(given_VLE, target_VLE, strict=True):
        for part in _cut(len(given_LE)):
            target_LE[part] = (given_LE[part][:, varied] - mean_E[varied]) / spread_E[varied]
    return target_VLE


def _measure(given_VLE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [E] over views and clips, float64."""
    # Sums of 100,000 clips are too coarse in float32, and all of them in float64 are gigabytes.
    blocks = [view_LE[part] for view_LE in given_VLE for part in _cut(len(view_LE))]
    n_clips = sum(map(len, blocks))
    sum_E = np.zeros(given_VLE.shape[2])
    for block in blocks:
        sum_E += block.sum(0, dtype=np.float64)
    mean_E, squares_E = sum_E / n_clips, np.zeros_like(sum_E)
    for block in blocks:
        squares_E += np.square(block - mean_E).sum(0)
    return mean_E, np.sqrt(squares_E / n_clips)


def _cut(n_clips: int) -> list[slice]:
    return [slice(start, start + CLIPS_AT_A_TIME) for start in range(0, n_clips, CLIPS_AT_A_TIME)]
