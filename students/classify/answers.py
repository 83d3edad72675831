"""What a student says of clips: the probabilities of classes, and those that it names.

Dimensions: B clips, K classes.
"""

import numpy as np

from students.runtime import ExportedStudent

NONE_IN_WORDS = "none of them"
NAMED_ABOVE = 0.5
"""Where clips may have several labels, a class is named whose probability is above it."""


def compute_probabilities(student: ExportedStudent, logits_BK: np.ndarray) -> np.ndarray:
    """Return the probability of each class, [B, K]: they add up to 1, unless clips may have several labels."""
    if student.has_several_labels:
        # Exponentials of no positive number: they stay finite.
        small_BK = np.exp(-np.abs(logits_BK))
        return np.where(logits_BK >= 0, 1, small_BK) / (1 + small_BK)
    shifted_BK = np.exp(logits_BK - logits_BK.max(axis=1, keepdims=True))
    return shifted_BK / shifted_BK.sum(axis=1, keepdims=True)


def describe_answer(student: ExportedStudent, probabilities_K: np.ndarray) -> str:
    """Return the class that a clip has and its probability, with a tab between.

    Where clips may have several labels, all that are likely are named, and their probabilities, between
    bars; if there is none, the probability is that of the likeliest.
    """
    named = [int(probabilities_K.argmax())]
    if student.has_several_labels:
        named = np.flatnonzero(probabilities_K > NAMED_ABOVE).tolist()
    if not named:
        return f"{NONE_IN_WORDS}\t{probabilities_K.max():.3f}"
    names = "|".join(student.classes[each] for each in named)
    return f"{names}\t{'|'.join(f'{probabilities_K[each]:.3f}' for each in named)}"
