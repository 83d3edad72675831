"""Losses of students (B clips in a batch, N clips of the corpus, K classes).

Soft labels are probabilities at the temperature: `soften` makes them, once for a corpus. A loss is
given per clip, [B], if its formula allows it, so that clips can be weighted.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from students.recipe import Decoupled, Dist, check_temperature

_SMALLEST = 1e-30
"""Probabilities with a smaller sum have too few digits in float32 for their quotients."""


def standardize(logits_BK: Tensor) -> Tensor:
    """Return logits with mean 0 and standard deviation 1 in every clip.

    Then a student learns the relations of a teacher's logits, not their size, which a small student
    cannot reach (Sun et al. 2024, arXiv:2403.01427, eq. 9, with the standard deviation of a
    population).
    """
    variance_B1 = logits_BK.var(dim=-1, correction=0, keepdim=True)
    # Inside the root, so that equal logits have a gradient.
    return (logits_BK - logits_BK.mean(dim=-1, keepdim=True)) / (variance_B1 + 1e-12).sqrt()


def soften(logits_BK: Tensor, temperature: float, *, several: bool = False) -> Tensor:
    """Return soft labels: probabilities at a temperature, with any axes before the classes.

    `ensemble.soft_labels` does the same for numpy arrays, without torch.

    Args:
        logits_BK: logits of a teacher or an ensemble.
        temperature: above 0; 1 leaves the logits as they are, more is softer.
        several: whether a clip may have several labels: then each class has a probability of its own.

    Raises:
        ValueError: a temperature that is not above 0.
    """
    check_temperature(temperature)
    if several:
        return torch.sigmoid(logits_BK / temperature)
    return functional.softmax(logits_BK / temperature, dim=-1)


def soft_label_loss(student_logits_BK: Tensor, soft_BK: Tensor, temperature: float) -> Tensor:
    """Divergence of the student from its teacher, times the temperature squared, for each clip [B].

    T^2 KL(soft labels || softmax(student / T)): the square keeps the size of the gradients when
    the temperature changes (Hinton et al. 2015, arXiv:1503.02531, section 2). 0 for a student that
    agrees.

    Args:
        student_logits_BK: with gradient.
        soft_BK: probabilities at the same temperature.
        temperature: what the student's logits are divided by.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0.
    """
    check_pair(student_logits_BK, soft_BK)
    check_temperature(temperature)
    student_BK = functional.log_softmax(student_logits_BK / temperature, dim=-1)
    return temperature**2 * _divergence(soft_BK, student_BK)


def decoupled_loss(
    student_logits_BK: Tensor,
    teacher_logits_BK: Tensor,
    labels_B: Tensor,
    temperature: float,
    weights: Decoupled,
) -> Tensor:
    """Decoupled distillation, for each clip [B].

    T^2 (alpha KL(b || b') + beta KL(q || q')), where b is the true class against all others and q
    the distribution over the others (Zhao et al. 2022, arXiv:2203.08679, eq. 7).

    Args:
        student_logits_BK: with gradient.
        teacher_logits_BK: logits and not probabilities: of a sure teacher, the others' probabilities
            are 0 in float32, and what they are among themselves is lost.
        labels_B: true classes, int64.
        temperature: what both are divided by.
        weights: weights of the two parts.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0, or a single class.
    """
    check_pair(student_logits_BK, teacher_logits_BK)
    check_temperature(temperature)
    student_BK, teacher_BK = student_logits_BK / temperature, teacher_logits_BK / temperature
    log_BK, soft_BK = student_BK.log_softmax(dim=-1), teacher_BK.softmax(dim=-1)
    true_B1, others_BJ = labels_B.unsqueeze(1), _list_other_classes(labels_B, soft_BK.shape[1])
    log_others_BJ, soft_others_BJ = log_BK.gather(1, others_BJ), soft_BK.gather(1, others_BJ)
    # Sums of the others, not 1 - p: with a confident teacher, 1 - p would be only rounding.
    log_sum_B1 = log_others_BJ.logsumexp(dim=1, keepdim=True)
    soft_sum_B1 = soft_others_BJ.sum(dim=1, keepdim=True)
    true_class_B = _divergence(
        torch.cat([soft_BK.gather(1, true_B1), soft_sum_B1], dim=1),
        torch.cat([log_BK.gather(1, true_B1), log_sum_B1], dim=1),
    )
    # Where the others have next to nothing, underflow and rounding decide: their logits are exact.
    other_classes_B = _divergence(
        (soft_others_BJ / soft_sum_B1.clamp_min(_SMALLEST)).where(
            soft_sum_B1 >= _SMALLEST, teacher_BK.gather(1, others_BJ).softmax(dim=-1)
        ),
        (log_others_BJ - log_sum_B1).where(
            log_sum_B1 >= math.log(_SMALLEST), student_BK.gather(1, others_BJ).log_softmax(dim=-1)
        ),
    )
    return temperature**2 * (
        weights.true_class_weight * true_class_B + weights.other_classes_weight * other_classes_B
    )


def dist_loss(
    student_logits_BK: Tensor, soft_BK: Tensor, temperature: float, weights: Dist
) -> Tensor:
    """Distillation by correlation: a scalar, because clips are compared with each other.

    T^2 (beta (1 - r of the classes, mean over clips) + gamma (1 - r of the clips, mean over
    classes)) with Pearson's r of probabilities (Huang et al. 2022, arXiv:2205.10536, eq. 6, 8, 9).

    Args:
        student_logits_BK: with gradient.
        soft_BK: probabilities at the same temperature.
        temperature: what the student's logits are divided by.
        weights: weights of the two parts.

    Raises:
        ValueError: shapes that differ, or a temperature that is not above 0.
    """
    check_pair(student_logits_BK, soft_BK)
    student_BK = soften(student_logits_BK, temperature)
    between_B = 1 - _correlation(student_BK, soft_BK)
    within_K = 1 - _correlation(student_BK.T, soft_BK.T)
    return temperature**2 * (
        weights.between_classes_weight * between_B.mean()
        + weights.within_class_weight * within_K.mean()
    )


def confidence(logits_NK: Tensor) -> Tensor:
    """Confidence of a teacher in each clip, 0...1: 1 minus its entropy over the largest entropy.

    Computed from probabilities at temperature 1, with any axes before the classes (OURS).
    """
    entropy_N = torch.special.entr(functional.softmax(logits_NK, dim=-1)).sum(dim=-1)
    return (1 - entropy_N / torch.log(torch.tensor(float(logits_NK.shape[-1])))).clamp(0, 1)


def _divergence(p_BK: Tensor, log_q_BK: Tensor) -> Tensor:
    """KL(p || q) of each row; classes with p = 0 add nothing, whatever q is."""
    return (torch.special.xlogy(p_BK, p_BK) - p_BK * log_q_BK).sum(dim=1)


def _correlation(a_BK: Tensor, b_BK: Tensor) -> Tensor:
    """Pearson's r of each row of a with the same row of b; 0 if one of them is constant to 1e-8."""
    a_BK = a_BK - a_BK.mean(dim=1, keepdim=True)
    b_BK = b_BK - b_BK.mean(dim=1, keepdim=True)
    return functional.cosine_similarity(a_BK, b_BK, dim=1)


def _list_other_classes(labels_B: Tensor, n_classes: int) -> Tensor:
    """Return the classes that are not the true one, ascending, for each clip: [B, K - 1]."""
    if n_classes < 2:
        raise ValueError(f"{n_classes} class, expected at least 2")
    below_J = torch.arange(n_classes - 1, device=labels_B.device)
    return below_J + (below_J >= labels_B.unsqueeze(1))


def check_pair(student_logits_BK: Tensor, soft_BK: Tensor) -> None:
    """Check that a student's logits have the shape of its soft labels.

    Raises:
        ValueError: they have not.
    """
    if student_logits_BK.ndim != 2 or student_logits_BK.shape != soft_BK.shape:
        raise ValueError(
            f"student logits {tuple(student_logits_BK.shape)} and soft labels "
            f"{tuple(soft_BK.shape)}, expected the same (clips, classes)"
        )
