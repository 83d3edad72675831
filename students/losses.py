"""What a student minimises (B clips in a batch, N clips of the corpus, K classes).

Soft labels are probabilities, already at the temperature: `soften` makes them, once for a corpus.
Losses of a batch are given per clip, [B], where the formula allows it, so that clips can be weighed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Reduction = Literal["batch_mean", "element_mean"]
_SMALLEST = 1e-30
"""Keeps a quotient of float32 probabilities finite where both are 0."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoupled:
    """Weights of the two parts of decoupled distillation; the defaults are the paper's."""

    true_class_weight: float = 1.0
    """Of how sure one may be of the true class (alpha)."""
    other_classes_weight: float = 8.0
    """Of how the others compare with each other (beta)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dist:
    """Weights of the two parts of distillation by correlation; the defaults are the paper's."""

    between_classes_weight: float = 1.0
    """Of the order of the classes in each clip (beta)."""
    within_class_weight: float = 1.0
    """Of the order of the batch's clips in each class (gamma)."""


def check_temperature(temperature: float) -> None:
    """Make sure that logits can be divided by it.

    Raises:
        ValueError: it is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature!r}, expected a number above 0")


def standardize(logits_BK: Tensor) -> Tensor:
    """Logits with mean 0 and spread 1 in every clip.

    Then only the order of a teacher's logits is learnt, and not their size, which a small student
    cannot reach (Sun et al. 2024, arXiv:2403.01427, eq. 9; the spread is that of a population).
    """
    variance_B1 = logits_BK.var(dim=-1, correction=0, keepdim=True)
    # Inside the root, so that equal logits have a gradient.
    return (logits_BK - logits_BK.mean(dim=-1, keepdim=True)) / (variance_B1 + 1e-12).sqrt()


def soften(logits_BK: Tensor, temperature: float, *, standardized: bool = False) -> Tensor:
    """Soft labels: the probabilities at a temperature, any number of axes before the classes.

    Args:
        logits_BK: of a teacher or an ensemble.
        temperature: above 0; 1 leaves the logits as they are, more is softer.
        standardized: whether logits are standardised before.

    Raises:
        ValueError: a temperature that is not above 0.
    """
    check_temperature(temperature)
    logits_BK = standardize(logits_BK) if standardized else logits_BK
    return functional.softmax(logits_BK / temperature, dim=-1)


def soft_label_loss(student_logits_BK: Tensor, soft_BK: Tensor, temperature: float) -> Tensor:
    """Divergence of each clip's student from its teacher, times the temperature squared, [B].

    T^2 KL(soft labels || softmax(student / T)): the square keeps the gradients' size when the
    temperature changes (Hinton et al. 2015, arXiv:1503.02531, section 2). 0 for a student that
    agrees.

    Args:
        student_logits_BK: with gradient.
        soft_BK: probabilities at the same temperature.
        temperature: what the student's logits are divided by.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0.
    """
    _check_pair(student_logits_BK, soft_BK)
    check_temperature(temperature)
    student_BK = functional.log_softmax(student_logits_BK / temperature, dim=-1)
    return temperature**2 * _divergence(soft_BK, student_BK)


def decoupled_loss(
    student_logits_BK: Tensor,
    soft_BK: Tensor,
    labels_B: Tensor,
    temperature: float,
    weights: Decoupled,
) -> Tensor:
    """Decoupled distillation of each clip, [B].

    T^2 (alpha KL(b || b') + beta KL(q || q')), where b tells the true class from all others and q
    the others from each other (Zhao et al. 2022, arXiv:2203.08679, eq. 7).

    Args:
        student_logits_BK: with gradient.
        soft_BK: probabilities at the same temperature.
        labels_B: true classes, int64.
        temperature: what the student's logits are divided by.
        weights: of the two parts.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0, a single class.
    """
    _check_pair(student_logits_BK, soft_BK)
    check_temperature(temperature)
    student_BK = functional.log_softmax(student_logits_BK / temperature, dim=-1)
    true_B1, others_BJ = labels_B.unsqueeze(1), _other_classes(labels_B, soft_BK.shape[1])
    student_true_B1, student_others_BJ = (
        student_BK.gather(1, true_B1),
        student_BK.gather(1, others_BJ),
    )
    soft_true_B1, soft_others_BJ = soft_BK.gather(1, true_B1), soft_BK.gather(1, others_BJ)
    # Sums of the others, and not 1 - p: what is left of a sure teacher would be rounding.
    all_others_B1 = soft_others_BJ.sum(dim=1, keepdim=True)
    student_all_others_B1 = student_others_BJ.logsumexp(dim=1, keepdim=True)
    true_class_B = _divergence(
        torch.cat([soft_true_B1, all_others_B1], dim=1),
        torch.cat([student_true_B1, student_all_others_B1], dim=1),
    )
    other_classes_B = _divergence(
        soft_others_BJ / all_others_B1.clamp_min(_SMALLEST),
        student_others_BJ - student_all_others_B1,
    )
    return temperature**2 * (
        weights.true_class_weight * true_class_B + weights.other_classes_weight * other_classes_B
    )


def dist_loss(
    student_logits_BK: Tensor, soft_BK: Tensor, temperature: float, weights: Dist
) -> Tensor:
    """Distillation by correlation: a scalar, since clips are compared with each other.

    T^2 (beta (1 - r of the classes, mean over clips) + gamma (1 - r of the clips, mean over
    classes)) with Pearson's r of probabilities (Huang et al. 2022, arXiv:2205.10536, eq. 6, 8, 9).

    Args:
        student_logits_BK: with gradient.
        soft_BK: probabilities at the same temperature.
        temperature: what the student's logits are divided by.
        weights: of the two parts.

    Raises:
        ValueError: shapes that differ, a temperature that is not above 0.
    """
    _check_pair(student_logits_BK, soft_BK)
    student_BK = soften(student_logits_BK, temperature)
    between_B = 1 - _correlation(student_BK, soft_BK)
    within_K = 1 - _correlation(student_BK.T, soft_BK.T)
    return temperature**2 * (
        weights.between_classes_weight * between_B.mean()
        + weights.within_class_weight * within_K.mean()
    )


def confidence(logits_NK: Tensor) -> Tensor:
    """How sure a teacher is of each clip, 0...1: one minus its entropy over that of a guess.

    Of the probabilities at temperature 1; any number of axes before the classes (OURS).
    """
    entropy_N = torch.special.entr(functional.softmax(logits_NK, dim=-1)).sum(dim=-1)
    return (1 - entropy_N / torch.log(torch.tensor(float(logits_NK.shape[-1])))).clamp(0, 1)


def _divergence(p_BK: Tensor, log_q_BK: Tensor) -> Tensor:
    """KL(p || q) of each row; what p rules out counts nothing, whatever q says."""
    return (torch.special.xlogy(p_BK, p_BK) - p_BK * log_q_BK).sum(dim=1)


def _correlation(a_BK: Tensor, b_BK: Tensor) -> Tensor:
    """Pearson's r of each row of a with the same row of b; 0 where one of them is constant."""
    a_BK = a_BK - a_BK.mean(dim=1, keepdim=True)
    b_BK = b_BK - b_BK.mean(dim=1, keepdim=True)
    return functional.cosine_similarity(a_BK, b_BK, dim=1)


def _other_classes(labels_B: Tensor, n_classes: int) -> Tensor:
    """For each clip the classes that are not true, ascending: [B, K - 1]."""
    if n_classes < 2:
        raise ValueError(f"{n_classes} class, expected at least 2 to tell apart")
    below_J = torch.arange(n_classes - 1, device=labels_B.device)
    return below_J + (below_J >= labels_B.unsqueeze(1))


def _check_pair(student_logits_BK: Tensor, soft_BK: Tensor) -> None:
    if student_logits_BK.ndim != 2 or student_logits_BK.shape != soft_BK.shape:
        raise ValueError(
            f"student logits {tuple(student_logits_BK.shape)} and soft labels "
            f"{tuple(soft_BK.shape)}, expected the same (clips, classes)"
        )
