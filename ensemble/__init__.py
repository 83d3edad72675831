"""From the members' logits to one set of soft labels (M members, N clips, K classes)."""

from ensemble.combine import mean_logits, soft_labels
from ensemble.select import Selection, select

__all__ = ["Selection", "mean_logits", "select", "soft_labels"]
