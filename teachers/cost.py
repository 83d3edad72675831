"""What a teacher computes for one clip: multiply-accumulates and parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherCost:
    """The work of one forward pass, and the size of the model."""

    macs: int
    """Multiply-accumulates of all matrix products and convolutions, wherever they are called."""
    params: int


def measure_cost(model: nn.Module, input_shape: Sequence[int]) -> TeacherCost:
    """Run the model once on zeros, in evaluation mode, and count.

    `students.complexity` follows the challenge's rule instead: it counts what modules do, and a
    transformer's linear layers once a clip, not once a token.

    Args:
        model: runs on its parameters' device; its mode (training or evaluation) stays.
        input_shape: including the batch dimension, which should be 1.
    """
    was_training = model.training
    device = next(model.parameters()).device
    tally = _Tally()
    with torch.no_grad(), tally:
        model.eval()(torch.zeros(*input_shape, device=device))
    model.train(was_training)
    return TeacherCost(macs=tally.macs, params=sum(each.numel() for each in model.parameters()))


class _Tally(TorchFunctionMode):
    """Counts the products of the functions that are called while it is active.

    torch's own FlopCounterMode gives the same numbers, but imports the compiler, which takes seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function and count its products."""
        result = func(*args, **(kwargs or {}))
        products = _PRODUCTS.get(getattr(func, "__name__", ""))
        if products is not None:
            self.macs += result.numel() * products(*args[:2])
        return result


def _count_filter_products(_: Tensor, weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _count_row_products(left: Tensor, _: Tensor) -> int:
    return left.shape[-1]


def _count_attention_products(query: Tensor, key: Tensor) -> int:
    # Two products: of queries with keys, and of the attention weights with the values.
    return 2 * key.shape[-2]


_PRODUCTS: dict[str, Callable[[Tensor, Tensor], int]] = {
    "conv1d": _count_filter_products,
    "conv2d": _count_filter_products,
    "linear": _count_row_products,
    "matmul": _count_row_products,
    "__matmul__": _count_row_products,
    "bmm": _count_row_products,
    "scaled_dot_product_attention": _count_attention_products,
}
"""The number of products in one value of a function's result."""
