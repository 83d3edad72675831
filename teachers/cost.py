"""What a teacher takes for one clip: multiply-accumulates and parameters."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Of one pass and of keeping the model."""

    macs: int
    """Multiply-accumulates of all matrix products and convolutions, wherever they are called."""
    params: int


def measure(model: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Run the model once on zeros, in evaluation mode, and count.

    Unlike `students.complexity`, which follows the challenge's rule: that counts what modules do,
    and a transformer's linear layers once a clip instead of once a token.

    Args:
        model: left as it was found, in training mode or not; runs where its parameters are.
        input_shape: with the batch, which should be 1.
    """
    was_training = model.training
    device = next(model.parameters()).device
    tally = _Tally()
    with torch.no_grad(), tally:
        model.eval()(torch.zeros(*input_shape, device=device))
    model.train(was_training)
    return Cost(macs=tally.macs, params=sum(each.numel() for each in model.parameters()))


class _Tally(TorchFunctionMode):
    """Counts what is called while it is on.

    torch's own FlopCounterMode gives the same numbers, and imports the compiler: seconds.
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
        """Call it, and count what it took."""
        result = func(*args, **(kwargs or {}))
        products = _PRODUCTS.get(getattr(func, "__name__", ""))
        if products is not None:
            self.macs += result.numel() * products(*args[:2])
        return result


def _of_filters(_: Tensor, weight: Tensor) -> int:
    return math.prod(weight.shape[1:])


def _of_rows(left: Tensor, _: Tensor) -> int:
    return left.shape[-1]


def _of_attention(query: Tensor, key: Tensor) -> int:
    # Both products, of queries with keys and of these weights with the values.
    return 2 * key.shape[-2]


_PRODUCTS: dict[str, Callable[[Tensor, Tensor], int]] = {
    "conv1d": _of_filters,
    "conv2d": _of_filters,
    "linear": _of_rows,
    "matmul": _of_rows,
    "__matmul__": _of_rows,
    "bmm": _of_rows,
    "scaled_dot_product_attention": _of_attention,
}
"""How many products go into one value of the result."""
