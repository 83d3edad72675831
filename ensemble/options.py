"""How members are selected: words that need none of the kernels."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, TypedDict

MeanSpace = Literal["logits", "probabilities"]
"""What is averaged."""
SelectionMetric = Literal["log_loss", "macro_accuracy", "brier", "mean_average_precision"]
"""What a selection minimises; of the macro accuracy and the mAP, 1 minus it. The mAP is for clips with
several labels."""


class SelectionOptions(TypedDict, total=False):
    """Options of `select`, which describes them."""

    space: MeanSpace
    metric: SelectionMetric
    with_replacement: bool
    max_members: int | None
    patience: int
    required: Sequence[int]
    forbidden: Sequence[int]
    names: Sequence[str] | None


PRESETS: Mapping[str, SelectionOptions] = MappingProxyType(
    {
        "published": SelectionOptions(
            space="logits", metric="log_loss", with_replacement=False, patience=0
        ),
    }
)
"""`published` is what ASCDomain's notebook does: the greedy path over mean logits."""
