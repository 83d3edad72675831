"""The few systems of a split that stand for all: more would be unreadable."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from report.results import Judged, Results

BEST, MEDIAN, ENSEMBLE = "best teacher", "median teacher", "ensemble"
ALONE, TAUGHT = "student alone", "student taught"
ROLES = (BEST, MEDIAN, ENSEMBLE, ALONE, TAUGHT)
FEW = 3
"""Of fewer teachers none is shown as the one in the middle."""


def featured(results: Results, split: int) -> dict[str, Judged]:
    """Who has which of the `ROLES` in a split; roles that nobody has are left out.

    Best is who has the lowest log loss on `select`: test clips choose nothing. The ensemble is the
    one that taught most students, and the student taught its best pupil. Systems for which test
    clips chose something are left out if there are others.
    """
    there = [system for system in results.systems if system.split == split]
    there = [system for system in there if system.protocol != "published"] or there
    teachers = by_select_loss(results, [each for each in there if each.kind == "teacher"])
    students = by_select_loss(results, [each for each in there if each.kind == "student"])
    lessons = Counter(each.taught_by for each in students)
    ensembles = [each for each in there if each.kind == "ensemble"]
    ensembles.sort(key=lambda each: lessons[each.reference], reverse=True)
    taught = [each for each in students if each.taught_by is not None]
    if ensembles:
        taught.sort(key=lambda each: each.taught_by != ensembles[0].reference)
    alone = [each for each in students if each.taught_by is None]
    if taught:
        alone.sort(key=lambda each: each.recipe["model"] != taught[0].recipe["model"])
    candidates = {
        BEST: teachers,
        MEDIAN: teachers[len(teachers) // 2 :] if len(teachers) >= FEW else [],
        ENSEMBLE: ensembles,
        ALONE: alone,
        TAUGHT: taught,
    }
    return {role: found[0] for role, found in candidates.items() if found}


def splits_of(results: Results) -> list[int]:
    """The splits that somebody has learnt, the largest first."""
    return sorted({system.split for system in results.systems}, reverse=True)


def who_is_who(results: Results) -> str:
    """A line a split that names who is shown."""
    return "\n\n".join(
        f"Split {split}: "
        + "; ".join(f"{role}: {system.name}" for role, system in featured(results, split).items())
        + "."
        for split in splits_of(results)
    )


def by_select_loss(results: Results, systems: Sequence[Judged]) -> list[Judged]:
    """The best on `select` first, by the mean over seeds; those without such a figure last."""
    footers = results.store.footers([key for system in systems for key in system.keys])

    def loss(system: Judged) -> float:
        figures = [footers[key].figure("select") for key in system.keys]
        losses = [figure.log_loss for figure in figures if figure is not None]
        return fmean(losses) if losses else float("inf")

    return sorted(systems, key=loss)
