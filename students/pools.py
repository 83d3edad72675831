"""The clips without labels that a student learns from, beside its corpus or before it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from audio.clips import Corpus
from audio.pools import OWN_UNLABELLED, REST, Pool, make_learning_corpus
from logit_store import LogitKey
from students.errors import UnfitPool
from training.pool_use import PoolUse

OWN_POOLS: Sequence[str] = (REST, OWN_UNLABELLED)
"""Names of pools that are clips of a student's own corpus; the others are names of corpora."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class StudentPool:
    """Pools of one split of a corpus, and how a student learns from them."""

    pools: tuple[Pool, ...]
    use: PoolUse

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def identify(self) -> dict[str, Any]:
        """Return all of it that changes a student, for its fingerprint."""
        return {"pools": [pool.describe() for pool in self.pools], **asdict(self.use)}

    def describe(self, corpus: Corpus) -> dict[str, Any]:
        """Return what the record of a student says of the pools that it learnt from.

        Args:
            corpus: the student's corpus; clips of foreign pools have its duration.
        """
        hours = len(self) * corpus.clip_duration_s / 3600
        return {**self.identify(), "clips": len(self), "hours": round(hours, 4)}

    def make_corpus(self, corpus: Corpus, split: int) -> Corpus:
        """Return the corpus that the student learns from: its own clips, then those of others."""
        return make_learning_corpus(corpus, split, self.pools)


def check_same_pool(start: LogitKey, record: Mapping[str, Any], pool: StudentPool | None) -> None:
    """Make sure that a student is trained further with the pool that taught it.

    Args:
        start: the key of the student.
        record: its record.
        pool: the pool that is at hand.

    Raises:
        UnfitPool: it is another one; names both.
    """
    learnt = record.get("pool")
    found = None if pool is None else pool.identify()
    expected = None if learnt is None else {name: learnt[name] for name in ("pools", *_USE)}
    if found != expected:
        raise UnfitPool(
            f"{start} learnt from the pool {_tell(expected)}, this is {_tell(found)}: name the same pool, "
            "with the same clips"
        )


_USE = tuple(asdict(PoolUse()))


def _tell(identity: Mapping[str, Any] | None) -> str:
    if identity is None:
        return "none"
    pools = [f"{each['name']} ({each['clips']:,} clips)" for each in identity["pools"]]
    return f"{' and '.join(pools)}, share {identity['share']}"


def list_pool_parts(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a student's record says of its pools, of a first stage and of its own."""
    parts = [record.get(name) for name in ("first_pool", "pool")]
    return [part for part in parts if part and record.get("kind") == "student"]


def describe_pools(record: Mapping[str, Any]) -> str:
    """Return ` after pool A, with pool B` of a student's record; an empty text without pools.

    A first stage on another corpus is named as well.
    """
    parts = [
        f"{word} pool {'+'.join(each['name'] for each in record[name]['pools'])}"
        for name, word in (("first_pool", "after"), ("pool", "with"))
        if record.get(name)
    ]
    if first_corpus := record.get("first_corpus"):
        parts.insert(0, f"after corpus {first_corpus}")
    return f" {', '.join(parts)}" if parts else ""
