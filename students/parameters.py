"""Counts the parameters of a network as it is used."""

from collections.abc import Iterator

from torch import Tensor, nn

from students.branches import fold_branches
from students.cost import ParameterCount
from students.quantise import becomes_integers


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count all parameters, also of modules that a pass never calls; of pruned ones those that are left.

    Args:
        model: any network; is not changed. Its branches are counted as the one convolution that they become.
    """
    total, in_float32 = 0, 0
    for module, name in _list_parameters(fold_branches(model)):
        _, count = count_numbers(module, name)
        total += count
        in_float32 += 0 if becomes_integers(module) else count
    return ParameterCount(total, in_float32)


def count_numbers(module: nn.Module, name: str) -> tuple[str, int]:
    """Return a parameter's name and size; for a pruned one its original name and the weights left."""
    original = name.removesuffix("_orig")
    mask = getattr(module, f"{original}_mask", None)
    if original != name and isinstance(mask, Tensor):
        return original, int(mask.sum())
    return name, module.get_parameter(name).numel()


def _list_parameters(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Yield each parameter once, as the module that owns it and its name."""
    for path, _ in model.named_parameters():
        owner, _, name = path.rpartition(".")
        yield model.get_submodule(owner), name
