"""The soft labels that a student learns from, as fast to look up as labels.

Dimensions: V views, N clips of the corpus, B clips in a batch, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from audio.clips import Corpus
from logit_store import LogitKey
from students.errors import UnfitSoftLabels
from students.features import TeacherEmbeddings
from students.losses import confidence, soften, standardize
from students.recipe import Decoupled, Distillation


@dataclass(frozen=True, eq=False, slots=True)
class TeacherLogits:
    """Logits of an ensemble or of one member, and its name."""

    name: str
    logits: np.ndarray
    """Logits of all clips in the corpus's order: [N, K] of the untouched clips, or [V, N, K] of views
    0 to V - 1."""
    members: tuple[LogitKey, ...] = ()
    """View 0 of all members in the ensemble; needed only if the student sees stored views."""
    embeddings: TeacherEmbeddings | None = None
    """What its members' frozen networks say; needed only by a student whose features learn from it."""


class SoftLabels(nn.Module):
    """Soft labels: softened once, then gathered by rows on the device.

    Args:
        soft: the teachers' logits.
        corpus: the corpus whose clips they must belong to.
        learnt: rows of the clips that the student learns from.
        distillation: temperature, number of views, and whether confidence counts.

    Raises:
        UnfitSoftLabels: other classes, clips or views, or logits that are not finite.
    """

    soft_VNK: Tensor
    logits_VNK: Tensor | None
    weight_VN: Tensor | None

    def __init__(
        self, soft: TeacherLogits, corpus: Corpus, learnt: np.ndarray, distillation: Distillation
    ) -> None:
        super().__init__()
        given_VNK = torch.from_numpy(_check_logits(soft, corpus, distillation.n_views))
        logits_VNK = standardize(given_VNK) if distillation.standardized else given_VNK
        several = corpus.has_several_labels
        soft_VNK = soften(logits_VNK, distillation.temperature, several=several)
        # Not persistent: the store has the logits, so a checkpoint does not need them.
        self.register_buffer("soft_VNK", soft_VNK.contiguous(), persistent=False)
        kept_VNK = logits_VNK.contiguous() if isinstance(distillation.loss, Decoupled) else None
        self.register_buffer("logits_VNK", kept_VNK, persistent=False)
        weight_VN = _weigh_clips(soft.name, given_VNK, learnt) if distillation.confident else None
        self.register_buffer("weight_VN", weight_VN, persistent=False)

    def look_up(self, view: int, rows_B: Tensor) -> Tensor:
        """Return soft labels of clips in a view, [B, K]; of the untouched clips if only these exist."""
        return self.soft_VNK[self._find_index(view)].index_select(0, rows_B)

    def look_up_logits(self, view: int, rows_B: Tensor) -> Tensor:
        """Return the logits behind `look_up`, [B, K]; only for a loss that cannot do without them."""
        assert self.logits_VNK is not None
        return self.logits_VNK[self._find_index(view)].index_select(0, rows_B)

    def look_up_weights(self, view: int, rows_B: Tensor) -> Tensor | None:
        """Return the weights of the clips' soft labels, [B], with mean 1; None: all are equal."""
        if self.weight_VN is None:
            return None
        return self.weight_VN[self._find_index(view)].index_select(0, rows_B)

    def _find_index(self, view: int) -> int:
        return view if len(self.soft_VNK) > 1 else 0


def _check_logits(soft: TeacherLogits, corpus: Corpus, n_views: int | None) -> np.ndarray:
    """Return the logits as float32 [V, N, K], once they fit the corpus."""
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


def _weigh_clips(name: str, logits_VNK: Tensor, learnt: np.ndarray) -> Tensor:
    confidence_VN = confidence(logits_VNK)
    mean = confidence_VN[:, torch.from_numpy(learnt)].mean()
    # A smaller mean is only the rounding of float32 logarithms.
    if mean < 1e-6:
        raise UnfitSoftLabels(
            f"soft labels {name} are the same for every class of every clip: there is no confidence to weigh by"
        )
    return confidence_VN / mean
