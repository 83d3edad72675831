"""What a search may vary in a student's recipe, and the recipe that a point of it stands for."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from logit_store import fingerprint
from students.catalogue import ARCHITECTURES
from students.recipes import RECIPES, StudentRecipe
from training import WarmupCosine
from training.schedule import Schedule

Value = int | float
Point = Mapping[str, Value]
"""A value for each dimension of a space."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Any number from low to high.

    Raises:
        ValueError: there is none, or a logarithm of it.
    """

    low: float
    high: float
    log: bool = False
    """Whether factors count alike instead of steps."""

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self}: expected low < high, and 0 < low with log=True")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


Dimension = tuple[int, ...] | Range
"""Some values, or all of a range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """Variants of a recipe."""

    name: str
    base: StudentRecipe
    dimensions: Mapping[str, Dimension]
    """Named as in the recipe: `arguments.filters`, `training.weight_decay`."""

    @property
    def identity(self) -> str:
        """Equal for spaces whose points stand for equal recipes."""
        return fingerprint((self.base, self.dimensions))

    @property
    def is_finite(self) -> bool:
        """Whether its points can be listed."""
        return not any(isinstance(each, Range) for each in self.dimensions.values())

    def alone(self) -> "Space":
        """The same for a student without teachers."""
        kept = {k: v for k, v in self.dimensions.items() if not k.startswith("distillation.")}
        return replace(self, base=replace(self.base, distillation=None), dimensions=kept)

    def listed(self) -> list[dict[str, Value]]:
        """All combinations of the dimensions that are no ranges: the points of a finite space."""
        some = {k: v for k, v in self.dimensions.items() if not isinstance(v, Range)}
        return [
            dict(zip(some, values, strict=True)) for values in itertools.product(*some.values())
        ]

    def recipe(self, point: Point) -> StudentRecipe:
        """The recipe of a point, which may leave dimensions as they are in the base.

        Raises:
            ValueError: a dimension that is not of this space, or a value that a recipe cannot have.
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


def find_space(name: str, recipe: str | None = None) -> Space:
    """A space of SPACES, over another recipe than its own if one is named.

    Raises:
        ValueError: no such space or recipe, or the recipe has nothing that the space varies.
    """
    if name not in SPACES:
        raise ValueError(f"no space {name}; there are: {', '.join(SPACES)}")
    if recipe is None:
        return SPACES[name]
    if recipe not in RECIPES:
        raise ValueError(f"no student recipe {recipe}; there are: {', '.join(RECIPES)}")
    space, base = SPACES[name], RECIPES[recipe]
    architecture, other = (ARCHITECTURES[each.model].make for each in (space.base, base))
    if architecture is not other and any(
        each.startswith("arguments.") for each in space.dimensions
    ):
        raise ValueError(
            f"space {name} varies the architecture {space.base.model}, and recipe {recipe} teaches "
            f"{base.model}: name another recipe, or take the space recipe"
        )
    moved = replace(space, base=base)
    return moved if base.distillation else moved.alone()


def found_recipe(document: Mapping[str, Any], rank: int = 0) -> StudentRecipe:
    """What a search found, to be taught in full length.

    Args:
        document: the search's result, as the store has it.
        rank: 0 is the best.

    Raises:
        ValueError: it has taught no such point, or its space is no longer what it was.
    """
    made = document["search"]
    taught = [trial for trial in document["trials"] if trial["state"] in ("done", "stopped")]
    if rank not in range(len(taught)):
        raise ValueError(f"rank={rank}: the search has taught {len(taught)} points, 0 is the best")
    space = find_space(made["space"], made["recipe"])
    if made["taught_by"] is None:
        space = space.alone()
    if space.identity != made["space_identity"]:
        raise ValueError(
            f"space {space.name} over recipe {space.base.name} is another one now than it was for "
            "that search: search again"
        )
    return space.recipe(taught[rank]["point"])


def shortened(recipe: StudentRecipe, epochs: int) -> StudentRecipe:
    """The recipe in so many epochs, its schedule squeezed with it.

    OURS: in the published search of 10 epochs the warm-up of 150 epochs never ended.
    """
    training = recipe.training
    schedule = _squeezed(training.schedule, epochs / training.max_epochs)
    return replace(recipe, training=replace(training, max_epochs=epochs, schedule=schedule))


def _squeezed(schedule: Schedule, share: float) -> Schedule:
    if isinstance(schedule, WarmupCosine):
        return replace(schedule, warmup_steps=max(1, round(share * schedule.warmup_steps)))
    return replace(
        schedule,
        ramp_epochs=max(1, round(share * schedule.ramp_epochs)),
        hold_until_epoch=max(1, round(share * schedule.hold_until_epoch)),
        line_epochs=max(1, round(share * schedule.line_epochs)),
    )


def _published_grid() -> StudentRecipe:
    """Isotropic as ASCDomain's Isotropic_HPO teaches it: alone, without impulse responses."""
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

SPACES: Mapping[str, Space] = MappingProxyType(
    {
        space.name: space
        for space in (
            Space(
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
            Space(
                name="baseline",
                base=RECIPES["bcbl32"],
                dimensions={"arguments.base_channels": (8, 12, 16, 20, 24, 28, 32), **_RECIPE},
            ),
            Space(name="recipe", base=RECIPES["isotropic"], dimensions=_RECIPE),
            Space(
                name="grid540",
                base=_published_grid(),
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
"""grid540 is that of ASCDomain's Isotropic_HPO; the others are OURS."""
