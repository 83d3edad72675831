"""What lies in a store for a corpus, the seeds of a system side by side; nothing is judged yet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from logit_store import LogitKey, LogitStore, LogitStoreError, plain_name
from logit_store.layout import SPLITS

Kind = Literal["teacher", "ensemble", "student"]
KINDS: tuple[Kind, ...] = ("teacher", "ensemble", "student")


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Found:
    """A teacher, an ensemble or a student on one split, once per seed."""

    kind: Kind
    split: int
    keys: tuple[LogitKey, ...]
    """Its logits, a key a seed; of an ensemble those of its members."""
    records: tuple[Mapping[str, Any], ...]
    """In the order of the keys."""
    reference: str | None = None
    """Of an ensemble: NAME@HASH."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """Of an ensemble: what its selection wrote into the store."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """As the first record tells it; of an ensemble the settings of its selection."""
        return self.document["settings"] if self.reference else recipe_in(self.records[0])

    @property
    def taught_by(self) -> str | None:
        """Of a student: NAME@HASH of an ensemble, or a member; None is nobody."""
        return self.records[0].get("ensemble") if self.kind == "student" else None


def recipe_in(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe that a record tells; of logits that others published no more than its name."""
    recipe = record.get("recipe", {})
    return recipe if isinstance(recipe, Mapping) else {"name": recipe}


def find(store: LogitStore, corpus: str) -> tuple[list[Found], list[str]]:
    """All systems, by split and kind, and which ensembles could not be read, with the reason.

    Raises:
        LogitStoreError: there is no such store, or a file of logits must not be used.
    """
    footers = store.footers(store.keys(corpus))
    records = {key: footer.record for key, footer in footers.items()}
    ensembles, left_out = _ensembles(store, corpus, records)
    found = [*_members(records), *ensembles]
    return sorted(found, key=lambda each: (each.split, KINDS.index(each.kind))), left_out


def _members(records: Mapping[LogitKey, Mapping[str, Any]]) -> list[Found]:
    groups: dict[str, list[LogitKey]] = {}
    for key, record in records.items():
        groups.setdefault(_but_for_the_seed(key, record), []).append(key)
    return [
        Found(
            kind=records[keys[0]].get("kind", "teacher"),
            split=keys[0].split,
            keys=tuple(sorted(keys, key=lambda key: records[key].get("seed") or 0)),
            records=tuple(
                sorted((records[key] for key in keys), key=lambda each: each.get("seed") or 0)
            ),
        )
        for keys in groups.values()
    ]


def _but_for_the_seed(key: LogitKey, record: Mapping[str, Any]) -> str:
    """Equal for members that differ in nothing but their seed."""
    # What a run started from has a fingerprint of its own, which the seed is part of.
    began_as = [plain_name(record.get(name) or "-") for name in ("start", "quantised_from")]
    same = [record.get(name) for name in ("kind", "protocol", "recipe", "ensemble", "responses")]
    return json.dumps([key.split, plain_name(key.member), *began_as, *same], sort_keys=True)


def _ensembles(
    store: LogitStore, corpus: str, records: Mapping[LogitKey, Mapping[str, Any]]
) -> tuple[list[Found], list[str]]:
    found, left_out = [], []
    for split in SPLITS:
        for reference in store.ensembles(corpus, split):
            try:
                keys = tuple(store.pinned(corpus, split, reference))
                document = store.read_ensemble(corpus, split, reference)
            except LogitStoreError as error:
                left_out.append(f"{reference} of split {split}: {error}")
                continue
            found.append(
                Found(
                    kind="ensemble",
                    split=split,
                    keys=keys,
                    records=tuple(records[key] for key in keys),
                    reference=reference,
                    document=document,
                )
            )
    return found, left_out


def protocols(found: Sequence[Found]) -> list[str]:
    """The protocol of each system: `published` as soon as test clips chose any part of it.

    That is a run by that protocol, an ensemble chosen on test or with such a member, and a student
    that one of these taught.
    """
    published = {
        key.member
        for each in found
        for key, record in zip(each.keys, each.records, strict=True)
        if record.get("protocol") == "published"
    }
    chosen_on_test = {
        (each.split, each.reference)
        for each in found
        if each.reference
        and (each.document["fold"] == "test" or published & {key.member for key in each.keys})
    }

    def is_published(each: Found) -> bool:
        if each.reference:
            return (each.split, each.reference) in chosen_on_test
        return (
            any(key.member in published for key in each.keys)
            or each.taught_by in published
            or (each.split, each.taught_by) in chosen_on_test
        )

    return ["published" if is_published(each) else "honest" for each in found]
