"""Takes whole channels out of a student: those whose weights are smallest (structured pruning).

The result is the same architecture with smaller arguments, so that everything that builds, counts, exports
or loads a student works on it. Source: Li et al. 2017, arXiv:1608.08710. OURS: the weights of a layer are
compared with the mean of that layer, because a channel runs through layers of several sizes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from students.catalogue import ARCHITECTURES, build, resolve_arguments
from students.parameters import count_parameters
from students.recipe import StudentRecipe
from students.student import Student


@dataclass(frozen=True, slots=True)
class Width:
    """The argument that says how wide the layers of an architecture are."""

    argument: str
    find_group: Callable[[str], str]
    """From the name of a tensor of the state to that of its group: the channels of all tensors of a group
    are kept or removed together."""
    step: float
    """Difference of two widths that are tried."""


def _find_block(name: str) -> str:
    return ".".join(name.split(".")[:3])


_FILTERS = Width("filters", lambda name: "all", 1)
# Widths between blocks stay: residual sums need them.
_EXPANSION = Width("expansion_rate", _find_block, 0.05)
WIDTHS: Mapping[str, Width] = {
    "isotropic.Isotropic": _FILTERS,
    "recursive.Recursive": _FILTERS,
    "cp_mobile.CPMobile": _EXPANSION,
    "rep_mobile.RepMobile": _EXPANSION,
}
"""By the network of an architecture: the ones that can be pruned."""


def find_width(recipe: StudentRecipe) -> Width:
    """Return what can be pruned of a recipe's student.

    Raises:
        ValueError: nothing can; says which architectures can be pruned.
    """
    width = WIDTHS.get(ARCHITECTURES[recipe.model].network)
    if width is None:
        able = [name for name, entry in ARCHITECTURES.items() if entry.network in WIDTHS]
        raise ValueError(
            f"student recipe {recipe.name}: {recipe.model} cannot be pruned, because no argument of it says "
            "how wide all of its layers are; those that can: " + ", ".join(able)
        )
    return width


def plan_widths(
    recipe: StudentRecipe, n_classes: int, most_params: int, step_share: float
) -> list[dict[str, Any]]:
    """Return the arguments of each step from a recipe's student to one with few enough parameters.

    The last one is the widest that has few enough; none removes more than a share of the width before.

    Args:
        recipe: of the student that is pruned.
        n_classes: number of its classes.
        most_params: number of parameters of the last step, at most.
        step_share: share of the width that a step removes at most.

    Raises:
        ValueError: it cannot be pruned, or has few enough parameters already, or none of the steps has.
    """
    width = find_width(recipe)
    full = resolve_arguments(recipe.model, **recipe.arguments)[width.argument]

    def count(value: float) -> int:
        arguments: dict[str, Any] = {**recipe.arguments, width.argument: value}
        # Without memory for weights: only their shapes count.
        with torch.device("meta"):
            student = build(recipe.model, n_classes=n_classes, **arguments)
            return count_parameters(student).total

    if (n_full := count(full)) <= most_params:
        raise ValueError(
            f"student recipe {recipe.name} has {n_full:,} parameters, which is no more than the "
            f"{most_params:,} that are asked for: there is nothing to prune; ask for fewer"
        )
    tried = list(_list_below(full, width.step))
    place = bisect_left(tried, True, key=lambda value: count(value) <= most_params)
    if place == len(tried):
        raise ValueError(
            f"student recipe {recipe.name}: at its smallest {width.argument}, {tried[-1]}, it has "
            f"{count(tried[-1]):,} parameters, more than the {most_params:,} that are asked for; ask for "
            "that many or more"
        )
    fitting, steps, value = tried[place], [], full
    while value > fitting:
        least = max(fitting, (1 - step_share) * value)
        # At least one step of the width, if a share of it is less than that.
        value = min((each for each in tried if least <= each < value), default=None) or max(
            each for each in tried if each < value
        )
        steps.append({**recipe.arguments, width.argument: value})
    return steps


def _list_below(full: float, step: float) -> Iterator[float]:
    """Yield the widths below one, the largest first, all above 0."""
    n_steps = int(full / step - 1e-9)
    values = (round(number * step, 6) for number in range(n_steps, 0, -1))
    yield from (int(each) if step == 1 else each for each in values if each < full)


@torch.no_grad()
def narrow(wide: Student, model: str, student: Student) -> None:
    """Put the weights of the channels that matter most into a narrower student of the same architecture.

    Args:
        wide: the student that is pruned; it stays as it is.
        model: the name of its architecture.
        student: receives the weights; built with a smaller width.

    Raises:
        ValueError: it cannot be pruned, or differs in more than its width.
    """
    width = WIDTHS[ARCHITECTURES[model].network]
    before, after = wide.state_dict(), student.state_dict()
    places = _find_places(before, after)
    kept: dict[str, Tensor] = {}
    for group in {width.find_group(name): None for name in places}:
        own = {name: dims for name, dims in places.items() if width.find_group(name) == group}
        kept[group] = _choose_channels(group, own, before, after)
    taken = {}
    for name, tensor in before.items():
        for dim in places.get(name, ()):
            tensor = tensor.index_select(dim, kept[width.find_group(name)])
        taken[name] = tensor
    student.load_state_dict(taken)


def _find_places(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return the dimensions of each tensor that become smaller."""
    if before.keys() != after.keys():
        raise ValueError(
            "the two students have layers of other names, expected one architecture of two widths"
        )
    places = {}
    for name, tensor in before.items():
        pairs = zip(tensor.shape, after[name].shape, strict=True)
        dims = tuple(dim for dim, (old, new) in enumerate(pairs) if old != new)
        if dims:
            places[name] = dims
    return places


def _choose_channels(
    group: str,
    places: Mapping[str, tuple[int, ...]],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> Tensor:
    """Return the channels of a group that are kept, ascending."""
    sizes = {
        (before[name].shape[dim], after[name].shape[dim])
        for name, dims in places.items()
        for dim in dims
    }
    if len(sizes) != 1:
        raise ValueError(
            f"layers of {group} become narrower by {sorted(sizes)}, expected one width"
        )
    ((n_before, n_after),) = sizes
    importance = torch.zeros(n_before)
    for name, dims in places.items():
        tensor = before[name]
        # Statistics of the inputs are no weights.
        if "running_" in name:
            continue
        for dim in dims:
            others = [each for each in range(tensor.ndim) if each != dim]
            size = tensor.abs().mean(others) if others else tensor.abs()
            importance += size.cpu() / size.mean().clamp_min(1e-12).cpu()
    return importance.argsort(descending=True, stable=True)[:n_after].sort().values
