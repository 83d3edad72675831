"""The work that makes probes on workers: embed clips, join what was embedded, fit a head."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from audio.clips import Corpus
from jobs.log.task_log import log_line
from jobs.worker.device import find_reserved_device
from jobs.worker.where import PoolAt, Where, open_pool
from logit_store import (
    EmbeddingKey,
    LogitKey,
    LogitStore,
    MissingClips,
    MissingStore,
)
from teachers.backbones import Backbone
from teachers.probes import ProbeRun
from training.keys import hash_clip_order

if TYPE_CHECKING:
    from teachers.backbones.embed import Embedder

REPORTED_CLIPS = 1_024
"""Clips that are embedded between two lines in the log, which show that the work does not hang."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedClips:
    """Embeds some clips of a corpus with a frozen network."""

    key: EmbeddingKey
    """Of the embeddings of all clips."""
    backbone: Backbone
    where: Where
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    pool: PoolAt | None
    """The clips' corpus; None is the corpus that is learnt."""
    start: int
    """The first of the rows."""
    stop: int
    """The row after the last."""

    def find_result(self, store: LogitStore) -> str | None:
        """Return the embeddings' name if the store has these clips' embeddings."""
        try:
            is_stored = self.key in store.embeddings or any(
                rows.start <= self.start and self.stop <= rows.stop
                for rows in store.embeddings.find_shards(self.key)
            )
        except (MissingStore, MissingClips):
            return None
        return str(self.key) if is_stored else None

    def run(self) -> str:
        """Return the name of the embeddings, of which this shard is then in the store."""
        from teachers.backbones.embed import Embedder

        store, corpus = _open(self.where, self.pool)
        started, device = time.monotonic(), find_reserved_device()
        embedder = Embedder.open(
            self.backbone, corpus, device, responses=self.responses, store=store
        )
        opened, blocks = time.monotonic(), []
        for start in range(self.start, self.stop, REPORTED_CLIPS):
            rows = np.arange(start, min(self.stop, start + REPORTED_CLIPS))
            blocks.append(embedder.embed(rows, self.key.view))
            log_line(f"embedded {rows[-1] + 1 - self.start:,} of {self.stop - self.start:,} clips")
        record = {
            **embedder.describe(),
            **_count_cost(embedder),
            "clip_duration_s": corpus.clip_duration_s,
            "clips": self.stop - self.start,
            "opening_s": opened - started,
            "embedding_s": time.monotonic() - opened,
        }
        row_order = hash_clip_order(corpus)
        store.embeddings.write_shard(
            self.key, self.start, np.concatenate(blocks), record, row_order=row_order
        )
        return str(self.key)


@dataclass(frozen=True, kw_only=True, slots=True)
class JoinEmbeddings:
    """Joins the shards of embeddings to one file."""

    key: EmbeddingKey
    where: Where
    pool: PoolAt | None

    def find_result(self, store: LogitStore) -> str | None:
        """Return the embeddings' name if they are in the store."""
        return str(self.key) if self.key in store.embeddings else None

    def run(self) -> str:
        """Return the name of the embeddings, which are then in the store."""
        store, corpus = _open(self.where, self.pool)
        if self.key not in store.embeddings:
            record = self._read_record(store)
            store.embeddings.join_shards(self.key, record, row_order=hash_clip_order(corpus))
        return str(self.key)

    def _read_record(self, store: LogitStore) -> dict[str, Any]:
        """Return the record of all shards together; an empty one if they were joined meanwhile."""
        try:
            records = [
                store.embeddings.read_shard_footer(self.key, rows).record
                for rows in store.embeddings.find_shards(self.key)
            ]
        except FileNotFoundError:
            return {}
        return _add_up(records) if records else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class FitProbe:
    """Fits one probe on one split to stored embeddings."""

    probe: ProbeRun
    where: Where
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    n_views: int = 1
    """Number of views whose logits are stored."""
    pools: tuple[PoolAt, ...] = ()
    """Other corpora whose clips it predicts as well."""

    def run(self) -> LogitKey:
        """Return the key of view 0 of the probe's logits, which are then in the store."""
        from teachers.fit_probe import fit_probe

        store, corpus = self.where.open()
        return fit_probe(
            self.probe,
            corpus,
            store,
            responses=self.responses,
            n_views=self.n_views,
            pools=[open_pool(pool, corpus.clip_duration_s) for pool in self.pools],
        )


def _open(where: Where, pool: PoolAt | None) -> tuple[LogitStore, Corpus]:
    """Open the store, and the corpus or a pool for it."""
    store, corpus = where.open()
    return store, corpus if pool is None else open_pool(pool, corpus.clip_duration_s)


def _count_cost(embedder: "Embedder") -> dict[str, int]:
    """Return what a network computes for a clip, and its size; nothing of one that torch cannot look into."""
    from teachers.cost import measure_cost

    network = embedder.opened.network
    if next(network.parameters(), None) is None:
        return {}
    return asdict(measure_cost(network, embedder.feed.input_shape))


def _add_up(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the record of all shards together: durations and clips are sums."""
    sums = {name: sum(each[name] for each in records) for name in ("clips", "embedding_s")}
    return {**records[0], **sums}
