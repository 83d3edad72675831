"""What a student is taught by, as fast to look up as labels.

Dimensions: V views, N clips of the corpus, B clips in a batch, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio.clips import Corpus
from logit_store import LogitKey
from students.losses import confidence, soften
from students.recipes import Distillation


class UnfitSoftLabels(ValueError):
    """Soft labels that do not belong to the clips, classes or views that a student sees."""


@dataclass(frozen=True, eq=False, slots=True)
class Soft:
    """Logits of teachers, and the name of whose they are: of an ensemble, or of one member."""

    name: str
    logits: np.ndarray
    """Of all clips in the corpus's order: [N, K] of the untouched ones, or [V, N, K] of views 0 to
    V - 1."""
    members: tuple[LogitKey, ...] = ()
    """View 0 of all members that they are made of; only where the student sees stored views."""


class SoftLabels(nn.Module):
    """Softened once, and from then on gathered by rows on the device.

    Args:
        soft: whose logits.
        corpus: whose clips they must be of.
        learnt: rows of the clips that are learnt from.
        distillation: how soft, how many views, and whether confidence counts.

    Raises:
        UnfitSoftLabels: other classes, clips or views, or logits that are not finite.
    """

    soft_VNK: Tensor
    weight_VN: Tensor | None

    def __init__(
        self, soft: Soft, corpus: Corpus, learnt: np.ndarray, distillation: Distillation
    ) -> None:
        super().__init__()
        logits_VNK = torch.from_numpy(_checked(soft, corpus, distillation.n_views))
        soft_VNK = soften(
            logits_VNK, distillation.temperature, standardized=distillation.standardized
        )
        # Not persistent: a checkpoint need not hold what the store holds.
        self.register_buffer("soft_VNK", soft_VNK.contiguous(), persistent=False)
        weight_VN = _weights(soft.name, logits_VNK, learnt) if distillation.confident else None
        self.register_buffer("weight_VN", weight_VN, persistent=False)

    def of(self, view: int, rows_B: Tensor) -> Tensor:
        """Soft labels of clips in a view, [B, K]; those of the untouched clips if that is all."""
        return self.soft_VNK[self._at(view)].index_select(0, rows_B)

    def weight(self, view: int, rows_B: Tensor) -> Tensor | None:
        """How much the soft labels of clips count, [B], 1 on average; None: all alike."""
        if self.weight_VN is None:
            return None
        return self.weight_VN[self._at(view)].index_select(0, rows_B)

    def _at(self, view: int) -> int:
        return view if len(self.soft_VNK) > 1 else 0


def _checked(soft: Soft, corpus: Corpus, n_views: int | None) -> np.ndarray:
    """The logits as float32 [V, N, K]."""
    logits_VNK = np.asarray(soft.logits, np.float32)
    if logits_VNK.ndim == 2:
        logits_VNK = logits_VNK[None]
    expected = (n_views or 1, len(corpus), len(corpus.scenes))
    if logits_VNK.shape != expected:
        raise UnfitSoftLabels(
            f"soft labels {soft.name} have shape {soft.logits.shape} (views, clips, classes), "
            f"expected {expected}: corpus {corpus.name} has {len(corpus)} clips and the classes "
            f"{', '.join(corpus.scenes)}, and the student learns from {n_views or 1} view(s)"
        )
    wrong = np.argwhere(~np.isfinite(logits_VNK).all(axis=2))
    if len(wrong):
        view, row = wrong[0].tolist()
        raise UnfitSoftLabels(
            f"soft labels {soft.name}: view {view} of row {row} is {logits_VNK[view, row]}, "
            "expected finite logits: leave out members that diverged"
        )
    return logits_VNK


def _weights(name: str, logits_VNK: Tensor, learnt: np.ndarray) -> Tensor:
    confidence_VN = confidence(logits_VNK)
    mean = confidence_VN[:, torch.from_numpy(learnt)].mean()
    # Less is the rounding of float32 logarithms.
    if mean < 1e-6:
        raise UnfitSoftLabels(
            f"soft labels {name} are a guess for every clip: there is no confidence to weigh by"
        )
    return confidence_VN / mean
