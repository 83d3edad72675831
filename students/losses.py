"""What a student minimises (B clips in a batch, K classes)."""

from typing import Literal

from torch import Tensor
from torch.nn import functional

Reduction = Literal["batch_mean", "element_mean"]


def soft_label_loss(
    student_logits_BK: Tensor,
    teacher_logits_BK: Tensor,
    temperature: float,
    reduction: Reduction = "batch_mean",
) -> Tensor:
    """Divergence of a student from its teacher at a temperature, times the temperature squared.

    T^2 KL(softmax(teacher / T) || softmax(student / T)): the square keeps the gradients' size when
    the temperature changes (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Args:
        student_logits_BK: Of the student, with gradient.
        teacher_logits_BK: Of a teacher or an ensemble; constants to the gradient.
        temperature: Softens both; 1 leaves the logits as they are.
        reduction: `batch_mean` averages over clips; `element_mean` over clips and classes, K times
            smaller, as in the published code of CP-JKU 2023 and ASCDomain.

    Returns:
        A scalar, 0 for a student that agrees.

    Raises:
        ValueError: Shapes that differ, a temperature that is not above 0, an unknown reduction.
    """
    _check_logits(student_logits_BK, teacher_logits_BK)
    if not temperature > 0:
        raise ValueError(f"temperature={temperature!r}, expected a number above 0")
    student_BK = functional.log_softmax(student_logits_BK / temperature, dim=-1)
    teacher_BK = functional.log_softmax(teacher_logits_BK.detach() / temperature, dim=-1)
    divergence_BK = temperature**2 * teacher_BK.exp() * (teacher_BK - student_BK)
    match reduction:
        case "batch_mean":
            return divergence_BK.sum(dim=-1).mean()
        case "element_mean":
            return divergence_BK.mean()
    raise ValueError(f"reduction={reduction!r}, expected batch_mean or element_mean")


def distillation_loss(
    student_logits_BK: Tensor,
    teacher_logits_BK: Tensor,
    labels_B: Tensor,
    *,
    temperature: float,
    hard_label_weight: float,
    reduction: Reduction = "batch_mean",
) -> Tensor:
    """True labels and soft labels, weighed against each other.

    w * cross entropy + (1 - w) * soft label loss (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Args:
        student_logits_BK: Of the student, with gradient.
        teacher_logits_BK: Of a teacher or an ensemble.
        labels_B: True classes, int64.
        temperature: See `soft_label_loss`.
        hard_label_weight: Share w of the true labels, 0...1: 0 is soft labels only.
        reduction: See `soft_label_loss`.

    Returns:
        A scalar.

    Raises:
        ValueError: As `soft_label_loss`, or a share outside of 0...1.
    """
    if not 0 <= hard_label_weight <= 1:
        raise ValueError(f"hard_label_weight={hard_label_weight!r}, expected a share, 0...1")
    soft = soft_label_loss(student_logits_BK, teacher_logits_BK, temperature, reduction)
    hard = functional.cross_entropy(student_logits_BK, labels_B)
    return hard_label_weight * hard + (1 - hard_label_weight) * soft


def _check_logits(student_logits_BK: Tensor, teacher_logits_BK: Tensor) -> None:
    if student_logits_BK.ndim != 2 or student_logits_BK.shape != teacher_logits_BK.shape:
        raise ValueError(
            f"student logits {tuple(student_logits_BK.shape)} and teacher logits "
            f"{tuple(teacher_logits_BK.shape)}, expected the same (clips, classes)"
        )
