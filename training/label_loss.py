"""The loss of true labels, one a clip or several (B clips in a batch, K classes)."""

from torch import Tensor
from torch.nn import functional


def label_loss(logits_BK: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss of a batch, in nats.

    Args:
        logits_BK: with gradient.
        labels: true classes, int64 [B]: cross entropy. Or of several labels a clip zeros and ones,
            [B, K]: the mean over clips and classes of the binary cross entropies.
    """
    if labels.ndim == 2:
        return functional.binary_cross_entropy_with_logits(logits_BK, labels.to(logits_BK.dtype))
    return functional.cross_entropy(logits_BK, labels)
