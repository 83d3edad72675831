"""The settings of a student's recipe that a search may vary, and the recipe of each point."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from logit_store import fingerprint
from students.catalogue import ARCHITECTURES
from students.recipe import StudentRecipe
from students.recipes import RECIPES
from training import WarmupCosine
from training.schedule import Schedule

Value = int | float
Point = Mapping[str, Value]
"""A value for each dimension of a space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Any number from low to high.

    Raises:
        ValueError: one is not finite, low is not below high, or not above 0 with log=True.
    """

    low: float
    high: float
    log: bool = False
    """Whether to search on a logarithmic scale."""

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf or (self.log and self.low <= 0):
            raise ValueError(
                f"{self}: expected finite numbers with low < high, and 0 < low with log=True"
            )

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


Dimension = tuple[int, ...] | Range
"""Single values, or all values of a range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """Variants of a recipe."""

    name: str
    base: StudentRecipe
    dimensions: Mapping[str, Dimension]
    """Named as in the recipe: `arguments.filters`, `training.weight_decay`."""

    @property
    def identity(self) -> str:
        """A fingerprint that is equal for spaces whose points stand for equal recipes."""
        return fingerprint((self.base, self.dimensions))

    @property
    def is_finite(self) -> bool:
        """Whether its points can be listed."""
        return not any(isinstance(each, Range) for each in self.dimensions.values())

    def drop_teachers(self) -> "SearchSpace":
        """Return the same space for a student without teachers."""
        kept = {k: v for k, v in self.dimensions.items() if not k.startswith("distillation.")}
        return replace(self, base=replace(self.base, distillation=None), dimensions=kept)

    def list_points(self) -> list[dict[str, Value]]:
        """Return all combinations of the dimensions that are not ranges: all points of a finite space."""
        finite = {k: v for k, v in self.dimensions.items() if not isinstance(v, Range)}
        return [
            dict(zip(finite, values, strict=True)) for values in itertools.product(*finite.values())
        ]

    def make_recipe(self, point: Point) -> StudentRecipe:
        """Return the recipe of a point; dimensions without a value stay as they are in the base.

        Raises:
            ValueError: an unknown dimension, or a value that a recipe cannot have.
        """
        unknown = sorted(set(point) - set(self.dimensions))
        if unknown:
            raise ValueError(
                f"space {self.name} has no dimension {', '.join(unknown)}; there are: "
                f"{', '.join(self.dimensions)}"
            )
        parts: dict[str, dict[str, Any]] = {}
        for name, value in point.items():
            part, _, field = name.rpartition(".")
            parts.setdefault(part, {})[field] = value
        changes: dict[str, Any] = parts.pop("", {})
        if "arguments" in parts:
            changes["arguments"] = {**self.base.arguments, **parts.pop("arguments")}
        for part, values in parts.items():
            changes[part] = replace(getattr(self.base, part), **values)
        name = f"{self.base.name}_{fingerprint(dict(point))[:8]}" if point else self.base.name
        return replace(self.base, name=name, **changes)


def find_space(name: str, recipe: str | None = None) -> SearchSpace:
    """Return a space of SEARCH_SPACES, with another base recipe if one is named.

    Raises:
        ValueError: an unknown space or recipe, or the space varies arguments of another network.
    """
    if name not in SEARCH_SPACES:
        raise ValueError(f"no space {name}; there are: {', '.join(SEARCH_SPACES)}")
    if recipe is None:
        return SEARCH_SPACES[name]
    if recipe not in RECIPES:
        raise ValueError(f"no student recipe {recipe}; there are: {', '.join(RECIPES)}")
    space, base = SEARCH_SPACES[name], RECIPES[recipe]
    network, other = (ARCHITECTURES[each.model].network for each in (space.base, base))
    if network != other and any(each.startswith("arguments.") for each in space.dimensions):
        raise ValueError(
            f"space {name} varies the architecture {space.base.model}, and recipe {recipe} trains "
            f"{base.model}: name another recipe, or take the space recipe"
        )
    space = replace(space, base=base)
    return space if base.distillation else space.drop_teachers()


def make_found_recipe(document: Mapping[str, Any], rank: int = 0) -> StudentRecipe:
    """Return the recipe that a search found, in full length.

    Args:
        document: the search's result, as it is in the store.
        rank: 0 is the best.

    Raises:
        ValueError: the search trained no such point, or its space has changed since.
    """
    made = document["search"]
    trained = [trial for trial in document["trials"] if trial["state"] in ("done", "stopped")]
    if rank not in range(len(trained)):
        raise ValueError(
            f"rank={rank}: the search has trained {len(trained)} points, 0 is the best"
        )
    space = find_space(made["space"], made["recipe"])
    if made["taught_by"] is None:
        space = space.drop_teachers()
    if space.identity != made["space_identity"]:
        raise ValueError(
            f"space {space.name} over recipe {space.base.name} has changed since that search: "
            "search again"
        )
    return space.make_recipe(trained[rank]["point"])


def shorten(recipe: StudentRecipe, epochs: int) -> StudentRecipe:
    """Return the recipe with a number of epochs, its schedule shortened in proportion.

    OURS: the published search of 10 epochs kept the warm-up of 150 epochs, which never ended.
    """
    training = recipe.training
    schedule = _shorten_schedule(training.schedule, epochs / training.max_epochs)
    return replace(recipe, training=replace(training, max_epochs=epochs, schedule=schedule))


def _shorten_schedule(schedule: Schedule, share: float) -> Schedule:
    if isinstance(schedule, WarmupCosine):
        return replace(schedule, warmup_steps=max(1, round(share * schedule.warmup_steps)))
    return replace(
        schedule,
        ramp_epochs=max(1, round(share * schedule.ramp_epochs)),
        hold_until_epoch=max(1, round(share * schedule.hold_until_epoch)),
        line_epochs=max(1, round(share * schedule.line_epochs)),
    )


def _make_grid_recipe() -> StudentRecipe:
    """Return Isotropic as ASCDomain's Isotropic_HPO trains it: no teachers, no impulse responses."""
    base = RECIPES["isotropic_ascdomain"]
    return replace(
        base,
        name="isotropic_grid540",
        augmentation=replace(base.augmentation, impulse_response_probability=0.0),
        distillation=None,
        device_loss_weight=0.0,
    )


_RECIPE: Mapping[str, Dimension] = {
    "training.peak_learning_rate": Range(low=1e-3, high=2e-2, log=True),
    "training.weight_decay": Range(low=1e-5, high=1e-2, log=True),
    "distillation.temperature": Range(low=1.0, high=8.0, log=True),
    "distillation.hard_label_weight": Range(low=0.0, high=0.5),
    "device_loss_weight": Range(low=0.0, high=0.1),
    "augmentation.mixstyle_probability": Range(low=0.0, high=0.8),
    "augmentation.impulse_response_probability": Range(low=0.0, high=0.8),
}

SEARCH_SPACES: Mapping[str, SearchSpace] = MappingProxyType(
    {
        space.name: space
        for space in (
            SearchSpace(
                name="isotropic",
                base=RECIPES["isotropic"],
                dimensions={
                    "arguments.filters": (32, 48, 64, 80, 96, 128),
                    "arguments.depth": (4, 6, 8, 9, 10),
                    "arguments.kernel": (3, 4, 5),
                    "arguments.patch": (4, 5, 6, 8, 10),
                    **_RECIPE,
                },
            ),
            SearchSpace(
                name="baseline",
                base=RECIPES["bcbl32"],
                dimensions={"arguments.base_channels": (8, 12, 16, 20, 24, 28, 32), **_RECIPE},
            ),
            SearchSpace(name="recipe", base=RECIPES["isotropic"], dimensions=_RECIPE),
            SearchSpace(
                name="grid540",
                base=_make_grid_recipe(),
                dimensions={
                    "arguments.filters": (32, 64, 128),
                    "arguments.depth": (4, 6, 8, 9, 10),
                    "arguments.kernel": (3, 4, 5, 6),
                    "arguments.patch": (4, 5, 6, 7, 8, 10, 12, 14, 16),
                },
            ),
        )
    }
)
"""grid540 is the space of ASCDomain's Isotropic_HPO; the others are OURS."""
