"""A run from start to end: train, then store weights, record and logits."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import safetensors.torch
from torch import nn

from logit_store import LogitKey, LogitStore
from training.checkpoint import Checkpoint, Progress
from training.epoch_metrics import EpochMetrics, OnEpoch
from training.keys import MemberKind, hash_clip_order, list_view_keys, locate_record, locate_weights
from training.loop import fit
from training.parallel import WorkerGroup
from training.prediction import predict_rows
from training.provenance import describe_provenance
from training.run import Run
from training.watch import encode_events, track_in_mlflow


def train_and_store(
    run: Run,
    key: LogitKey,
    kind: MemberKind,
    keep: nn.Module,
    record: dict[str, Any],
    store: LogitStore,
    on_epoch: OnEpoch,
) -> None:
    """Train the run's module and store the result as member `key.member`.

    The logits of all clips of the corpus, without those of foreign pools, are written last: a member that has logits is done. Until then there is
    a checkpoint, from which the same call continues. If there are several workers, all of them call
    this and one writes.

    Args:
        run: what learns what.
        key: of the logits.
        kind: "teacher" or "student".
        keep: the part of the run's module whose weights are stored.
        record: what the caller knows of the run; goes into the record and the footer.
        store: receives everything.
        on_epoch: called after each epoch with its metrics.
    """
    folder = f"{kind}s/v1/{key.member}"
    events = EventFiles(store, folder)
    checkpoint = Checkpoint(store, f"{folder}/checkpoint.pt", on_save=events.write)
    started = time.monotonic()
    workers = WorkerGroup.current()
    progress = train_module(run, checkpoint, (key.corpus, key.member), record, on_epoch)
    logits_NK = predict_rows(run, np.arange(len(run.feed.corpus.own)))
    if workers.leads:
        events.write(progress)
        weights = encode_weights(keep)
        store.objects.write(locate_weights(kind, key.member), weights)
        record = record | describe_result(run, kind, progress, started, weights)
        with_history = record | {"history": progress.history}
        store.objects.write_json(locate_record(kind, key.member), with_history)
        store.write(key, logits_NK, record, row_order=hash_clip_order(run.feed.corpus.own))
        checkpoint.discard()
    # From here on all workers find the member in the store.
    workers.wait()


def train_module(
    run: Run,
    checkpoint: Checkpoint,
    tracked: tuple[str, str],
    record: Mapping[str, Any],
    on_epoch: OnEpoch,
) -> Progress:
    """Train the run's module, and follow it in MLflow if there is one.

    Args:
        run: what learns what.
        checkpoint: from which it continues.
        tracked: names of the experiment and the run in MLflow.
        record: parameters of that run.
        on_epoch: called after each epoch with its metrics.
    """
    leads = WorkerGroup.current().leads
    with track_in_mlflow(*tracked, record) if leads else nullcontext() as track:

        def report(metrics: EpochMetrics) -> None:
            if track is not None:
                track(metrics.to_dict())
            on_epoch(metrics)

        return fit(run, checkpoint, report)


def encode_weights(module: nn.Module) -> bytes:
    """Return the weights of a module as a .safetensors file."""
    return safetensors.torch.save({k: v.contiguous() for k, v in module.state_dict().items()})


def describe_result(
    run: Run, kind: MemberKind, progress: Progress, started: float, weights: bytes
) -> dict[str, Any]:
    """Return what the record says of a run that is over."""
    return {
        "kind": kind,
        "protocol": run.protocol,
        "epochs": progress.epochs_done,
        "best_epoch": progress.best_epoch,
        "training_s": sum(metrics["took_s"] for metrics in progress.history),
        "last_attempt_s": time.monotonic() - started,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **describe_provenance(run.feed.device),
    }


def store_views(run: Run, key: LogitKey, n_views: int, store: LogitStore) -> None:
    """Store the logits of views 1 to n_views - 1 of a member whose view 0 is stored.

    Args:
        run: with the member's weights in its module, and a feed of `audio.views.stored_views`.
        key: of view 0.
        n_views: the number of views, view 0 included.
        store: receives them.
    """
    _predict_views(run, list_view_keys(key, n_views), store.read_record(key), store)


def store_pool(run: Run, key: LogitKey, n_views: int, store: LogitStore) -> None:
    """Store the logits that a trained member gives the clips of a pool, unless they are stored.

    Args:
        run: with the member's weights in its module, and a feed of the pool's clips with the changes of
            `audio.views.stored_views`.
        key: of view 0 of the corpus that the member learnt.
        n_views: the number of views, view 0 included.
        store: receives them, by the same key but with the pool's name as corpus.
    """
    learnt, pool = store.read_footer(key), run.feed.corpus.name
    record = learnt.record | {"pool": pool, "learnt_corpus": key.corpus}
    keys = list_view_keys(replace(key, corpus=pool), n_views)
    _predict_views(run, keys, record, store, learnt.classes)


def _predict_views(
    run: Run,
    keys: Sequence[LogitKey],
    record: dict[str, Any],
    store: LogitStore,
    classes: tuple[str, ...] | None = None,
) -> None:
    """Predict all clips of a corpus in each view whose logits are missing, and store them.

    The classes are given for a pool, whose clips have none.
    """
    corpus = run.feed.corpus.own
    everything, row_order = np.arange(len(corpus)), hash_clip_order(corpus)
    for key in keys:
        if key not in store:
            logits_NK = predict_rows(run, everything, key.view)
            if WorkerGroup.current().leads:
                changes = {"view": key.view, "view_augmentation": asdict(run.feed.augmentation)}
                with_view = record | (changes if key.view else {})
                store.write(key, logits_NK, with_view, row_order=row_order, classes=classes)


class EventFiles:
    """A run's TensorBoard files; each is whole and continues where the last one ended."""

    def __init__(self, store: LogitStore, folder: str) -> None:
        self._store, self._folder = store, folder

    def write(self, progress: Progress) -> None:
        """Store the epochs that are new; called before each checkpoint, so that both agree."""
        new = progress.history[progress.epochs_shown :]
        if new:
            name = f"events.out.tfevents.{progress.epochs_shown + 1:06d}.tutti"
            self._store.objects.write(f"{self._folder}/{name}", encode_events(new))
            progress.epochs_shown += len(new)
