"""The few systems that represent a split in charts, as more would be unreadable."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from report.results import JudgedSystem, Results

BEST, MEDIAN, ENSEMBLE = "best teacher", "median teacher", "ensemble"
ALONE, TAUGHT = "student alone", "student taught"
ROLES = (BEST, MEDIAN, ENSEMBLE, ALONE, TAUGHT)
FEW = 3
"""With fewer teachers, there is no median teacher."""


def pick_featured(results: Results, split: int) -> dict[str, JudgedSystem]:
    """Return the system in each of the `ROLES` of a split; a role without a system is left out.

    The best has the lowest log loss on `select`, as test clips must choose nothing. The ensemble is
    the one that taught most students, and the student taught is its best pupil. Systems for which
    test clips chose something are left out if there are others.
    """
    systems = [system for system in results.systems if system.split == split]
    systems = [system for system in systems if system.protocol != "published"] or systems
    teachers = sort_by_select_loss(results, [each for each in systems if each.kind == "teacher"])
    students = sort_by_select_loss(results, [each for each in systems if each.kind == "student"])
    n_pupils = Counter(each.taught_by for each in students)
    ensembles = [each for each in systems if each.kind == "ensemble"]
    ensembles.sort(key=lambda each: n_pupils[each.reference], reverse=True)
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
    return {role: systems[0] for role, systems in candidates.items() if systems}


def list_splits(results: Results) -> list[int]:
    """Return the splits that have systems, the largest first."""
    return sorted({system.split for system in results.systems}, reverse=True)


def describe_featured(results: Results) -> str:
    """Return a line for each split with the names of the systems that are shown."""
    return "\n\n".join(
        f"Split {split}: "
        + "; ".join(
            f"{role}: {system.name}" for role, system in pick_featured(results, split).items()
        )
        + "."
        for split in list_splits(results)
    )


def sort_by_select_loss(results: Results, systems: Sequence[JudgedSystem]) -> list[JudgedSystem]:
    """Sort by the mean log loss over seeds on `select`, the best first; without a loss, last."""
    footers = results.store.read_footers([key for system in systems for key in system.keys])

    def mean_loss(system: JudgedSystem) -> float:
        figures = [footers[key].find_scores("select") for key in system.keys]
        losses = [figure.log_loss for figure in figures if figure is not None]
        return fmean(losses) if losses else float("inf")

    return sorted(systems, key=mean_loss)
