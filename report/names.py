"""Names of the systems of a report: short, and unique on a split."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from logit_store import strip_fingerprint
from report.systems import StoredSystem
from students.pools import describe_pools

MAX_DIFFERENCES = 3
"""A name shows at most this many values in which recipes of one name differ; with more, a hash."""


def name_systems(systems: Sequence[StoredSystem], protocols: Sequence[str]) -> list[str]:
    """Name each system, uniquely within its kind and split, and equally on each split."""
    names = [
        _name_plainly(each, protocol) for each, protocol in zip(systems, protocols, strict=True)
    ]
    names = _add_differences(systems, names)
    counts = Counter(
        (each.kind, each.split, name) for each, name in zip(systems, names, strict=True)
    )
    return [
        name if counts[each.kind, each.split, name] == 1 else f"{name} {_find_digits(each)}"
        for each, name in zip(systems, names, strict=True)
    ]


def _name_plainly(each: StoredSystem, protocol: str) -> str:
    if each.reference:
        name = f"ensemble {each.reference.partition('@')[0]}"
    else:
        name = strip_fingerprint(each.keys[0].member)
        if each.records[0].get("cross_fit"):
            name += " (cross-fitted)"
    if each.taught_by:
        name += f" from {name_teacher(each.taught_by)}"
    if each.kind == "student":
        name += describe_pools(each.records[0])
    return name if protocol == "honest" else f"{name} (published)"


def name_teacher(taught_by: str) -> str:
    """Name what taught a student, NAME@HASH or a member, without hash or fingerprint."""
    name, is_ensemble, _ = taught_by.partition("@")
    return name if is_ensemble else strip_fingerprint(name)


def _add_differences(systems: Sequence[StoredSystem], names: Sequence[str]) -> list[str]:
    """Add to names the values in which recipes of one name differ."""
    alike: dict[tuple[str, str], list[StoredSystem]] = {}
    for each, name in zip(systems, names, strict=True):
        alike.setdefault((each.kind, name), []).append(each)
    differing = {key: _find_differences(group) for key, group in alike.items()}
    named = []
    for each, name in zip(systems, names, strict=True):
        leaves = dict(_walk(each.recipe))
        values = [f"{path[-1]}={leaves.get(path)}" for path in differing[each.kind, name]]
        named.append(f"{name} ({', '.join(values)})" if values else name)
    return named


def _find_differences(group: Sequence[StoredSystem]) -> list[tuple[str, ...]]:
    """Return the places in which these recipes differ, or none if they are many."""
    leaves = [dict(_walk(each.recipe)) for each in group]
    paths = dict.fromkeys(path for each in leaves for path in each)
    differing = [path for path in paths if len({str(each.get(path)) for each in leaves}) > 1]
    return differing if len(differing) <= MAX_DIFFERENCES else []


def _walk(
    value: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inside in value.items():
        if isinstance(inside, Mapping):
            yield from _walk(inside, (*path, name))
        else:
            yield (*path, name), inside


def _find_digits(each: StoredSystem) -> str:
    return (each.reference or each.keys[0].member).rpartition("@" if each.reference else "-")[2]
