"""A probe learns stored embeddings of a corpus and writes its logits to the store.

Dimensions: N clips, n of them at a time, D dimensions of all backbones together, K classes.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

from audio.clips import Corpus
from audio.micirp import describe_responses
from audio.parts import NO_PART, draw_parts
from logit_store import EmbeddingKey, LogitKey, LogitStore
from teachers.linear_head import FittedHead, LinearHead, fit_head
from teachers.probes import (
    ProbeRun,
    find_learning_rows,
    list_embedding_keys,
    make_probe_key,
)
from training import fetch_weights, list_view_keys, locate_weights
from training.keys import hash_clip_order, locate_record
from training.parts import join_logits
from training.provenance import describe_provenance

BLOCK_CLIPS = 4_096
"""Clips that are predicted at a time: of 10,000 dimensions they take 330 MB."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The heads of a probe: one, or one for each part that cross-fitting left out."""

    heads: tuple[LinearHead, ...]

    def compute_logits(
        self, embeddings_nD: NDArray[np.floating], part_n: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits [n, K]: of a clip that one head left out from that head, else the mean of all."""
        return join_logits(
            part_n,
            len(self.heads),
            lambda part, places: self.heads[part].compute_logits(embeddings_nD[places]),
        )

    def encode(self) -> bytes:
        """Return all weights as safetensors, float64."""
        arrays = {
            f"{prefix}{name}": np.ascontiguousarray(array)
            for prefix, head in zip(_name_parts(len(self.heads)), self.heads, strict=True)
            for name, array in (
                ("mean", head.mean_D),
                ("scale", head.scale_D),
                ("coefficients", head.coefficients_KD),
                ("intercepts", head.intercepts_K),
            )
        }
        return safetensors.numpy.save(arrays)

    @classmethod
    def decode(cls, data: bytes, n_heads: int) -> Self:
        """Return the probe whose weights are these."""
        arrays = safetensors.numpy.load(data)
        names = ("mean", "scale", "coefficients", "intercepts")
        return cls(
            tuple(
                LinearHead(*(arrays[prefix + name] for name in names))
                for prefix in _name_parts(n_heads)
            )
        )


def _name_parts(n_heads: int) -> list[str]:
    return [""] if n_heads == 1 else [f"part_{number}." for number in range(1, n_heads + 1)]


def fit_probe(
    run: ProbeRun,
    corpus: Corpus,
    store: LogitStore,
    *,
    responses: Path | None,
    n_views: int = 1,
    pools: Sequence[Corpus] = (),
) -> LogitKey:
    """Fit one probe on one split and store its logits of all clips, unless they are there.

    Args:
        run: what learns.
        corpus: the probe learns from its `fit` clips.
        store: has the embeddings of all clips and views; receives weights, record and logits.
        responses: folder of impulse responses of the views; None for the synthetic set.
        n_views: the number of views whose logits are stored; view 0 is the untouched clips.
        pools: other corpora, whose clips it predicts too.

    Raises:
        CorpusError: a scene has no clip to learn from.
        MissingEmbeddings: the store lacks some.
    """
    key = make_probe_key(run, corpus, responses)
    parts_N = _draw_parts(run, corpus)
    if key not in store:
        _fit_and_store(run, key, parts_N, corpus, store, responses)
    wanted = [
        (each, view_key)
        for each in (corpus, *pools)
        for view_key in list_view_keys(replace(key, corpus=each.name), n_views)
        if view_key not in store
    ]
    if wanted:
        data = fetch_weights(store, "teacher", key.member).read_bytes()
        probe, record = Probe.decode(data, run.cross_fit or 1), store.read_record(key)
        for each, view_key in wanted:
            own_parts_N = parts_N if each is corpus else np.full(len(each), NO_PART)
            logits_NK = _predict(run, probe, view_key, own_parts_N, store, responses)
            store.write(
                view_key,
                logits_NK,
                record | _describe_clips(view_key, key),
                row_order=hash_clip_order(each),
                # The clips of a pool have no classes of their own.
                classes=None if each is corpus else corpus.scenes,
            )
    return key


def _describe_clips(key: LogitKey, learnt: LogitKey) -> dict[str, Any]:
    """Return what the record of further logits says besides that of the corpus that was learnt."""
    pool = (
        {"pool": key.corpus, "learnt_corpus": learnt.corpus} if key.corpus != learnt.corpus else {}
    )
    return pool | ({"view": key.view} if key.view else {})


def _fit_and_store(
    run: ProbeRun,
    key: LogitKey,
    parts_N: NDArray[np.int64],
    corpus: Corpus,
    store: LogitStore,
    responses: Path | None,
) -> None:
    """Fit the heads, and store weights, record and logits, these last: a member that has them is done."""
    started = time.monotonic()
    rows = find_learning_rows(corpus, run.split, run.protocol)
    views = [
        _read_embeddings(run, corpus.name, view, store, responses, rows)
        for view in range(run.recipe.n_views)
    ]
    embeddings_ND, learnt = np.concatenate(views), np.tile(rows, len(views))
    labels_N, recordings_N = corpus.labels()[learnt], corpus.column("recording")[learnt]
    fitted = []
    for part in range(run.cross_fit or 1):
        kept = np.flatnonzero((parts_N[learnt] != part) | (run.cross_fit is None))
        fitted.append(
            fit_head(
                embeddings_ND[kept],
                labels_N[kept],
                recordings_N[kept],
                len(corpus.scenes),
                run.seed,
                run.recipe.l2_grid,
                run.recipe.n_parts,
            )
        )
    training_s = time.monotonic() - started
    probe = Probe(tuple(each.head for each in fitted))
    logits_NK = _predict(run, probe, key, parts_N, store, responses)
    weights = probe.encode()
    store.objects.write(locate_weights("teacher", key.member), weights)
    described = _describe(run, corpus, store, responses)
    record = {
        **described,
        **_describe_choices(fitted),
        **_count_cost(probe, described["backbones"]),
        "training_s": training_s,
        "last_attempt_s": time.monotonic() - started,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **describe_provenance(torch.device("cpu")),
    }
    store.objects.write_json(locate_record("teacher", key.member), record)
    store.write(key, logits_NK, record, row_order=hash_clip_order(corpus))


def _describe(
    run: ProbeRun, corpus: Corpus, store: LogitStore, responses: Path | None
) -> Mapping[str, Any]:
    """Return what the record says of a run before it has begun."""
    keys = list_embedding_keys(run.backbones, corpus.name, 0, responses)
    footers = [store.embeddings.read_footer(key) for key in keys]
    return {
        "recipe": asdict(run.recipe),
        "family": "probe",
        "kind": "teacher",
        "protocol": run.protocol,
        "seed": run.seed,
        **({} if run.cross_fit is None else {"cross_fit": run.cross_fit}),
        **describe_responses(responses),
        "backbones": [
            {
                "embeddings": key.backbone,
                "embeddings_hash": footer.embeddings_hash,
                "dims": footer.n_dims,
                **footer.record,
            }
            for key, footer in zip(keys, footers, strict=True)
        ],
    }


def _describe_choices(fitted: Sequence[FittedHead]) -> Mapping[str, Any]:
    """Return which L2 was chosen, and by which losses; for several heads a list of these."""
    choices = [{"l2": each.l2, "held_out_losses": list(each.losses)} for each in fitted]
    return choices[0] if len(choices) == 1 else {"heads": choices}


def _count_cost(probe: Probe, backbones: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    """Return parameters and multiply-accumulates of backbones and heads; nothing if some are unknown."""
    head_size = sum(each.coefficients_KD.size for each in probe.heads)
    n_biases = sum(each.intercepts_K.size for each in probe.heads)
    if not all("macs" in each for each in backbones):
        return {}
    return {
        "macs": head_size + sum(each["macs"] for each in backbones),
        "params": head_size + n_biases + sum(each["params"] for each in backbones),
    }


def _draw_parts(run: ProbeRun, corpus: Corpus) -> NDArray[np.int64]:
    if run.cross_fit is None:
        return np.full(len(corpus), NO_PART)
    return draw_parts(corpus, run.split, run.cross_fit)


def _read_embeddings(
    run: ProbeRun,
    corpus: str,
    view: int,
    store: LogitStore,
    responses: Path | None,
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the embeddings of some clips, of all backbones side by side, [N, D]."""
    keys = list_embedding_keys(run.backbones, corpus, view, responses)
    return np.concatenate([store.embeddings.read(key, rows) for key in keys], axis=1)


def _predict(
    run: ProbeRun,
    probe: Probe,
    key: LogitKey,
    parts_N: NDArray[np.int64],
    store: LogitStore,
    responses: Path | None,
) -> NDArray[np.float32]:
    """Return the logits of a view of all clips of the key's corpus, [N, K]."""
    keys = list_embedding_keys(run.backbones, key.corpus, key.view, responses)
    blocks: list[NDArray[np.float32]] = []
    start = 0
    for embeddings_nD in _iterate_side_by_side(keys, store):
        part_n = parts_N[start : start + len(embeddings_nD)]
        blocks.append(probe.compute_logits(embeddings_nD, part_n))
        start += len(embeddings_nD)
    return np.concatenate(blocks)


def _iterate_side_by_side(
    keys: Sequence[EmbeddingKey], store: LogitStore
) -> Iterator[NDArray[np.float32]]:
    """Yield the embeddings of all backbones side by side, [n, D]."""
    iterators = [store.embeddings.iterate(key, BLOCK_CLIPS) for key in keys]
    for blocks in zip(*iterators, strict=True):
        yield np.concatenate(blocks, axis=1)
