"""Counts one pass of a model: multiply-accumulates, parameters, peak activation memory."""

import math
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from students.branches import fold_branches
from students.cost import Complexity
from students.parameters import count_numbers, count_parameters


def measure_complexity(model: nn.Module, input_shape: Sequence[int]) -> Complexity:
    """Run the model once on zeros, in evaluation mode, and count.

    The rule is NeSsi's (github.com/AlbertoAncilotto/NeSsi): only executed modules without children
    count, once per call. Convolutions: weights and biases times every output position. All others:
    `weight` and `bias` once per batch row, whatever the time axis; recurrent weights once per batch
    row and step. Additions, activations, pooling and functional calls are free.

    Peak activations are those of a run that keeps nothing longer than it is needed: after each
    executed module without children, its inputs, its outputs and all earlier outputs that a later
    module still reads are counted; tensors that share memory count once. Tensors that are made and
    consumed outside of such modules (the sum of a skip) are not seen.

    Args:
        model: is not changed; runs on the device of its first parameter. Branches are counted as the
            one convolution that they are in use.
        input_shape: includes the batch, which should be 1: MACs and memory grow with it.
    """
    model = fold_branches(model)
    tally = _Tally()
    with torch.no_grad(), _evaluation_mode(model), _observed(model, tally):
        model(_zeros(model, input_shape))
    params = count_parameters(model)
    return Complexity(
        macs=tally.macs,
        params=params.total,
        params_in_float32=params.in_float32,
        peak_activations=tally.peak_values,
    )


class _Tally:
    """What the forward hooks have seen so far."""

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
        # Keyed by storage: a view of a tensor takes no memory of its own.
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            // tensor.itemsize
            for _, tensor in alive
        }
        self.peak_values = max(self.peak_values, sum(storages.values()))


def _macs(module: nn.Module, output_shape: torch.Size) -> int:
    total = 0
    for own_name, _ in module.named_parameters(recurse=False):
        name, count = count_numbers(module, own_name)
        if name in ("weight", "bias"):
            is_convolution = "Conv" in type(module).__name__
            positions = output_shape[2:] if is_convolution else ()
            total += count * math.prod((output_shape[0], *positions))
        elif "weight" in name or "bias" in name:
            total += count * math.prod(output_shape[:2])
    return total


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
