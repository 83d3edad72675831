"""Losses of students on clips with several labels, or none (B clips in a batch, K classes).

Each class is learnt by itself: logits are log odds, soft labels are probabilities of each class.
"""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from students.losses import check_pair
from students.recipe import check_temperature


def hard_loss(
    logits_BK: Tensor, labels_BK: Tensor, mix: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the loss of the true labels, in nats, and the number of clips that have some.

    The loss is the mean over clips and classes of the binary cross entropies; what has no labels adds
    nothing. It is linear in the labels, so mixed clips have the mixed loss.

    Args:
        logits_BK: of the mixed clips, with gradient.
        labels_BK: 1 and 0; a row of -1 for a clip without labels.
        mix: from values of the batch's clips to those of the mixed clips.
    """
    known_B1 = mix((labels_BK[:, :1] >= 0).to(logits_BK.dtype))
    targets_BK = mix(labels_BK.clamp_min(0).to(logits_BK.dtype))
    losses_BK = known_B1 * functional.softplus(logits_BK) - targets_BK * logits_BK
    return losses_BK.mean(), known_B1.sum()


def soft_loss(student_logits_BK: Tensor, soft_BK: Tensor, temperature: float) -> Tensor:
    """Divergence of the student from its teacher, times the temperature squared, for each clip [B].

    T^2 times the mean over classes of KL(p || sigmoid(student / T)), where p and 1 - p are a class's two
    probabilities: Hinton et al. 2015, arXiv:1503.02531, section 2, for each class as a choice of its own.
    0 for a student that agrees.

    Args:
        student_logits_BK: with gradient.
        soft_BK: the teacher's probability of each class at the same temperature.
        temperature: what the student's logits are divided by.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0.
    """
    check_pair(student_logits_BK, soft_BK)
    check_temperature(temperature)
    crossed_BK = functional.binary_cross_entropy_with_logits(
        student_logits_BK / temperature, soft_BK, reduction="none"
    )
    own_BK = functional.binary_cross_entropy(soft_BK, soft_BK, reduction="none")
    return temperature**2 * (crossed_BK - own_BK).mean(dim=1)
