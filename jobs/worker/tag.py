"""The work of a published tagger on a worker: it says which own classes each clip has."""

from dataclasses import dataclass

from jobs.worker.device import find_reserved_device
from jobs.worker.where import Where
from logit_store import LogitKey
from teachers.taggers import Tagger, tag_and_store


@dataclass(frozen=True, kw_only=True, slots=True)
class TagClips:
    """Tags all clips of a corpus, for some splits."""

    tagger: Tagger
    where: Where
    splits: tuple[int, ...]

    def run(self) -> LogitKey:
        """Return the key of the tagger's logits of the first split; all are then in the store."""
        store, corpus = self.where.open()
        return tag_and_store(self.tagger, corpus, self.splits, store, find_reserved_device())
