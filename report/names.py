"""What people call the systems of a report: short, and no two alike on a split."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from logit_store import plain_name
from report.found import Found

MAX_DIFFERENCES = 3
"""A name tells so many values in which recipes of one name differ; more are told by hash digits."""


def names_of(found: Sequence[Found], protocols: Sequence[str]) -> list[str]:
    """A name for each system, unique within its kind and split, the same for it on each split."""
    names = [_base(each, protocol) for each, protocol in zip(found, protocols, strict=True)]
    names = _with_differences(found, names)
    taken = Counter(
        zip((each.kind for each in found), (e.split for e in found), names, strict=True)
    )
    return [
        name if taken[each.kind, each.split, name] == 1 else f"{name} {_digits(each)}"
        for each, name in zip(found, names, strict=True)
    ]


def _base(each: Found, protocol: str) -> str:
    if each.reference:
        name = f"ensemble {each.reference.partition('@')[0]}"
    else:
        name = plain_name(each.keys[0].member)
    if each.taught_by:
        name += f" from {teacher_name(each.taught_by)}"
    return name if protocol == "honest" else f"{name} (published)"


def teacher_name(taught_by: str) -> str:
    """What taught a student, without fingerprint or hash: NAME@HASH, or a member."""
    name, is_ensemble, _ = taught_by.partition("@")
    return name if is_ensemble else plain_name(name)


def _with_differences(found: Sequence[Found], names: Sequence[str]) -> list[str]:
    """The names, and where recipes of one name differ, in what."""
    alike: dict[tuple[str, str], list[Found]] = {}
    for each, name in zip(found, names, strict=True):
        alike.setdefault((each.kind, name), []).append(each)
    differing = {key: _differing(group) for key, group in alike.items()}
    told = []
    for each, name in zip(found, names, strict=True):
        leaves = dict(_leaves(each.recipe))
        values = [f"{path[-1]}={leaves.get(path)}" for path in differing[each.kind, name]]
        told.append(f"{name} ({', '.join(values)})" if values else name)
    return told


def _differing(group: Sequence[Found]) -> list[tuple[str, ...]]:
    """The places in which these recipes differ, if they are few."""
    leaves = [dict(_leaves(each.recipe)) for each in group]
    paths = dict.fromkeys(path for each in leaves for path in each)
    differing = [path for path in paths if len({str(each.get(path)) for each in leaves}) > 1]
    return differing if len(differing) <= MAX_DIFFERENCES else []


def _leaves(
    value: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inside in value.items():
        if isinstance(inside, Mapping):
            yield from _leaves(inside, (*path, name))
        else:
            yield (*path, name), inside


def _digits(each: Found) -> str:
    return (each.reference or each.keys[0].member).rpartition("@" if each.reference else "-")[2]
