"""The systems that a store has for a corpus, each with all its seeds; nothing is judged yet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from statistics import fmean
from typing import Any, Literal

from audio.clips import SPLITS
from logit_store import (
    Footer,
    LogitKey,
    LogitStore,
    LogitStoreError,
    MissingLogits,
    strip_fingerprint,
)
from logit_store.ensembles import Ensembles

SystemKind = Literal["teacher", "ensemble", "student"]
SYSTEM_KINDS: tuple[SystemKind, ...] = ("teacher", "ensemble", "student")
_SHOWN = ("space", "order", "losses", "clips", "fold", "candidates", "settings", "optimism")
"""What the report shows of an ensemble's document, besides its members."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class StoredSystem:
    """A teacher, an ensemble or a student on one split, with one run for each seed."""

    kind: SystemKind
    split: int
    keys: tuple[LogitKey, ...]
    """Keys of its logits, one for each seed; of an ensemble, those of its members."""
    records: tuple[Mapping[str, Any], ...]
    """The records of the keys, in their order."""
    select_loss: float
    """Mean log loss over the seeds on `select`, in nats; of an ensemble, on clips that no selection
    saw. Infinite without such clips."""
    reference: str | None = None
    """NAME@HASH of an ensemble; None for others."""
    document: Mapping[str, Any] = field(default_factory=dict)
    """What the selection of an ensemble wrote into the store; empty for others."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The recipe in the first record; of an ensemble, the settings of its selection."""
        return self.document["settings"] if self.reference else read_recipe(self.records[0])

    @property
    def taught_by(self) -> str | None:
        """What taught a student: NAME@HASH of an ensemble, or a member; None without a teacher."""
        return self.records[0].get("ensemble") if self.kind == "student" else None


def read_recipe(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the recipe of a record; published logits of others have no more than its name."""
    recipe = record.get("recipe", {})
    return recipe if isinstance(recipe, Mapping) else {"name": recipe}


def identify_network(recipe: Mapping[str, Any], record: Mapping[str, Any]) -> str | None:
    """Return a text that is equal for students of the same network; None if it is not recorded."""
    # Published logits of others have no model in their record.
    if "model" not in recipe:
        return None
    parts = [recipe["model"], recipe["arguments"], "quantisation" in record]
    return json.dumps(parts, sort_keys=True)


def find_systems(store: LogitStore, corpus: str) -> tuple[list[StoredSystem], list[str]]:
    """Find all systems, ordered by split and kind, and the ensembles that cannot be read.

    Returns:
        The systems; a text for each unreadable ensemble that names it and the reason.

    Raises:
        LogitStoreError: there is no such store, or a file of logits must not be used.
    """
    footers = store.list_footers(corpus)
    ensembles, left_out = _find_ensembles(store, corpus, footers)
    systems = [*_group_members(footers), *ensembles]
    return sorted(systems, key=lambda each: (each.split, SYSTEM_KINDS.index(each.kind))), left_out


def _group_members(footers: Mapping[LogitKey, Footer]) -> list[StoredSystem]:
    groups: dict[str, list[LogitKey]] = {}
    for key, footer in footers.items():
        groups.setdefault(_identify_without_seed(key, footer.record), []).append(key)
    return [
        _make_member(sorted(keys, key=lambda key: footers[key].record.get("seed") or 0), footers)
        for keys in groups.values()
    ]


def _make_member(keys: Sequence[LogitKey], footers: Mapping[LogitKey, Footer]) -> StoredSystem:
    records = tuple(footers[key].record for key in keys)
    losses = [
        scores.log_loss
        for key in keys
        if (scores := footers[key].find_scores("select")) is not None
    ]
    return StoredSystem(
        kind=records[0].get("kind", "teacher"),
        split=keys[0].split,
        keys=tuple(keys),
        records=records,
        select_loss=fmean(losses) if losses else inf,
    )


def _identify_without_seed(key: LogitKey, record: Mapping[str, Any]) -> str:
    """Return a text that is equal for members that differ only in their seed."""
    # The names of what a run started from end with fingerprints, which depend on the seed.
    origins = [strip_fingerprint(record.get(name) or "-") for name in ("start", "quantised_from")]
    # Networks per recording device have the general student of their own seed as teacher.
    is_own = record.get("ensemble") is not None and record.get("ensemble") == record.get("start")
    names = (
        "kind",
        "protocol",
        "recipe",
        "ensemble",
        "responses",
        "cross_fit",
        "pool",
        "first_pool",
        "embeddings",
    )
    same = [record.get(name) if name != "ensemble" or not is_own else "its own" for name in names]
    return json.dumps([key.split, strip_fingerprint(key.member), *origins, *same], sort_keys=True)


def _find_ensembles(
    store: LogitStore, corpus: str, footers: Mapping[LogitKey, Footer]
) -> tuple[list[StoredSystem], list[str]]:
    # Another look at the store for each ensemble would list all of its files.
    ensembles = Ensembles(store.files, store.address, partial(_get_hashes, store, footers))
    found, left_out = [], []
    for split in SPLITS:
        for reference in ensembles.find_all(corpus, split):
            try:
                keys = tuple(ensembles.read_weights(corpus, split, reference))
                document = ensembles.read(corpus, split, reference)
            except LogitStoreError as error:
                left_out.append(f"{reference} of split {split}: {error}")
                continue
            lacking = [name for name in _SHOWN if name not in document]
            if lacking:
                left_out.append(
                    f"{reference} of split {split}: another program wrote it, and does not say how it "
                    f"was selected ({', '.join(lacking)})"
                )
                continue
            found.append(
                StoredSystem(
                    kind="ensemble",
                    split=split,
                    keys=keys,
                    records=tuple(footers[key].record for key in keys),
                    select_loss=document.get("optimism", {}).get("nested", inf),
                    reference=reference,
                    document=document,
                )
            )
    return found, left_out


def _get_hashes(
    store: LogitStore, footers: Mapping[LogitKey, Footer], keys: Sequence[LogitKey]
) -> dict[LogitKey, str]:
    absent = [key for key in keys if key not in footers]
    if absent:
        raise MissingLogits(absent, store=store.address)
    return {key: footers[key].logits_hash for key in keys}


def find_protocols(systems: Sequence[StoredSystem]) -> list[str]:
    """Return the protocol of each system: `published` if test clips chose any part of it.

    This is so for a run with that protocol, an ensemble selected on test or with such a member, and
    a student that one of these taught.
    """
    published = {
        key.member
        for each in systems
        for key, record in zip(each.keys, each.records, strict=True)
        if record.get("protocol") == "published"
    }
    chosen_on_test = {
        (each.split, each.reference)
        for each in systems
        if each.reference
        and (each.document["fold"] == "test" or published & {key.member for key in each.keys})
    }

    def is_published(each: StoredSystem) -> bool:
        if each.reference:
            return (each.split, each.reference) in chosen_on_test
        return (
            any(key.member in published for key in each.keys)
            or each.taught_by in published
            or (each.split, each.taught_by) in chosen_on_test
        )

    return ["published" if is_published(each) else "honest" for each in systems]
