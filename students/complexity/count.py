"""Counting one pass of a model: multiply-accumulates, parameters, peak activation memory."""

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["int8", "fp16", "fp32"]

BYTES: dict[Precision, int] = {"int8": 1, "fp16": 2, "fp32": 4}
"""Of one value, the smallest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Complexity:
    """Cost of one forward pass and of keeping the model."""

    macs: int
    """Multiply-accumulates as NeSsi counts them (DCASE task 1 allows 30,000,000 for one clip)."""
    params: int
    """All parameters, also of modules that the pass never calls; of pruned ones what is left."""
    peak_activations: int
    """Most values of layer inputs and outputs that are alive at once, what skips hold included."""

    def parameter_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes of all parameters at a precision (DCASE task 1 allows 128,000)."""
        return self.params * BYTES[precision]

    def peak_activation_bytes(self, precision: Precision = "fp32") -> int:
        """Bytes that activations take at most, layer by layer, at a precision."""
        return self.peak_activations * BYTES[precision]


def measure(model: nn.Module, input_shape: Sequence[int]) -> Complexity:
    """Run the model once on zeros, in evaluation mode, and count.

    The rule is NeSsi's (github.com/AlbertoAncilotto/NeSsi): only executed modules without children
    count, once a call. Convolutions: weights and biases times every output position. All others:
    `weight` and `bias` once per batch row, whatever the time axis; recurrent weights once per batch
    row and step. Additions, activations, pooling and functional calls are free.

    Peak activations are those of a run that keeps nothing longer than it is needed: after each
    executed module without children, its inputs and outputs and all that earlier ones made and a
    later one still reads are counted, tensors that share memory once. What is made and used up
    outside of such modules (the sum of a skip) is not seen.

    Args:
        model: Left as it was found; runs on the device of its first parameter.
        input_shape: With the batch, which should be 1: MACs and memory grow with it.
    """
    tally = _Tally()
    with torch.no_grad(), _evaluation_mode(model), _observed(model, tally):
        model(_zeros(model, input_shape))
    params = sum(_count(module, name)[1] for module, name in _parameters(model))
    return Complexity(macs=tally.macs, params=params, peak_activations=tally.peak_values)


class _Tally:
    """What the hooks have seen so far."""

    def __init__(self) -> None:
        self.macs = 0
        self.peak_values = 0
        self._seen: list[weakref.ref[Tensor]] = []

    def __call__(self, module: nn.Module, inputs: object, outputs: object) -> None:
        produced = list(_tensors(outputs))
        if produced:
            self.macs += _macs(module, produced[0].shape)
        self._seen += [weakref.ref(tensor) for tensor in (*_tensors(inputs), *produced)]
        self._note_memory()

    def _note_memory(self) -> None:
        alive = [(ref, tensor) for ref in self._seen if (tensor := ref()) is not None]
        self._seen = [ref for ref, _ in alive]
        # By storage: a view of a tensor takes no memory of its own.
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            // tensor.itemsize
            for _, tensor in alive
        }
        self.peak_values = max(self.peak_values, sum(storages.values()))


def _macs(module: nn.Module, output_shape: torch.Size) -> int:
    total = 0
    for own_name, _ in module.named_parameters(recurse=False):
        name, count = _count(module, own_name)
        if name in ("weight", "bias"):
            is_convolution = "Conv" in type(module).__name__
            positions = output_shape[2:] if is_convolution else ()
            total += count * math.prod((output_shape[0], *positions))
        elif "weight" in name or "bias" in name:
            total += count * math.prod(output_shape[:2])
    return total


def _count(module: nn.Module, name: str) -> tuple[str, int]:
    """A parameter's name and size; of a pruned one the name before and the weights left."""
    original = name.removesuffix("_orig")
    mask = getattr(module, f"{original}_mask", None)
    if original != name and isinstance(mask, Tensor):
        return original, int(mask.sum())
    return name, module.get_parameter(name).numel()


def _parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Each parameter once, with the module that owns it."""
    for path, _ in model.named_parameters():
        owner, _, name = path.rpartition(".")
        yield model.get_submodule(owner), name


def _tensors(value: object) -> Iterator[Tensor]:
    match value:
        case nn.Parameter():
            return
        case Tensor():
            yield value
        case tuple() | list():
            for part in value:
                yield from _tensors(part)
        case dict():
            yield from _tensors(list(value.values()))


def _zeros(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    first = next(model.parameters(), torch.empty(0))
    return torch.zeros(tuple(input_shape), dtype=first.dtype, device=first.device)


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _observed(model: nn.Module, tally: _Tally) -> Iterator[None]:
    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    handles = [leaf.register_forward_hook(tally) for leaf in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
