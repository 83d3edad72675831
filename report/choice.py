"""Which systems a report judges and shows: those with a role, and the best by their loss on select.

Test clips choose nothing: all is known before a system is judged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from report.systems import StoredSystem, identify_network

BEST, MEDIAN, ENSEMBLE = "best teacher", "median teacher", "ensemble"
ALONE, TAUGHT = "student alone", "student taught"
ROLES = (BEST, MEDIAN, ENSEMBLE, ALONE, TAUGHT)
FEW = 3
"""With fewer teachers, there is no median teacher."""
MOST = 50
"""How many systems of a kind and a split a page shows, if nobody says; more are hard to read."""

Ranked = Mapping[str, Sequence[StoredSystem]]
"""The systems of a split, the best first: teachers, ensembles, students alone and students taught."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The systems that are shown."""

    roles: Mapping[int, Mapping[str, StoredSystem]]
    """For each split, the system in each of the `ROLES`; a role without a system is left out."""
    shown: frozenset[StoredSystem]


def choose_systems(stored: Sequence[StoredSystem], protocols: Sequence[str], most: int) -> Choice:
    """Choose the systems with a role, and the best `most` of each split and kind.

    Students alone and students that were taught are two kinds here. Systems for which test clips
    chose something come after all others.
    """
    published = {
        each for each, protocol in zip(stored, protocols, strict=True) if protocol == "published"
    }
    by_split: dict[int, list[StoredSystem]] = {}
    for each in stored:
        by_split.setdefault(each.split, []).append(each)
    roles, shown = {}, set[StoredSystem]()
    for split, systems in by_split.items():
        honest = [each for each in systems if each not in published]
        roles[split] = _pick_roles(_rank(honest or systems))
        shown.update(roles[split].values())
        tested = [each for each in systems if each in published]
        for first, second in zip(_rank(honest).values(), _rank(tested).values(), strict=True):
            shown.update([*first, *second][:most])
    return Choice(roles, frozenset(shown))


def _pick_roles(ranked: Ranked) -> dict[str, StoredSystem]:
    """Pick the systems that represent a split in charts, as more would be unreadable.

    The best teacher has the lowest log loss on `select`. The ensemble is the one that taught most
    students, and the student taught is its best pupil.
    """
    teachers, ensembles = ranked["teachers"], ranked["ensembles"]
    alone, taught = ranked["alone"], ranked["taught"]
    if ensembles:
        taught = sorted(taught, key=lambda each: each.taught_by != ensembles[0].reference)
    if taught:
        alone = sorted(
            alone, key=lambda each: each.recipe.get("model") != taught[0].recipe["model"]
        )
    candidates = {
        BEST: teachers,
        MEDIAN: teachers[len(teachers) // 2 :] if len(teachers) >= FEW else [],
        ENSEMBLE: ensembles,
        ALONE: alone,
        TAUGHT: taught,
    }
    return {role: systems[0] for role, systems in candidates.items() if systems}


def _rank(systems: Sequence[StoredSystem]) -> Ranked:
    by_loss = sorted(systems, key=lambda each: each.select_loss)
    n_pupils = Counter(each.taught_by for each in systems if each.kind == "student")
    students = [each for each in by_loss if each.kind == "student"]
    return {
        "teachers": [each for each in by_loss if each.kind == "teacher"],
        "ensembles": sorted(
            (each for each in by_loss if each.kind == "ensemble"),
            key=lambda each: -n_pupils[each.reference],
        ),
        "alone": _put_networks_first([each for each in students if each.taught_by is None]),
        "taught": [each for each in students if each.taught_by is not None],
    }


def _put_networks_first(students: Sequence[StoredSystem]) -> list[StoredSystem]:
    """Move the best student of each network to the front: taught ones are compared with it."""
    n_before: Counter[str | None] = Counter()
    places = {}
    for each in students:
        network = identify_network(each.recipe, each.records[0])
        places[each] = n_before[network]
        n_before[network] += 1
    return sorted(students, key=lambda each: places[each] > 0)
