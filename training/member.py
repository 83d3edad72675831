"""A run from start to end: learn, then leave weights, record and logits in the store."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
from torch import nn

from audio import impulse_responses
from audio.clips import Corpus
from logit_store import LogitKey, LogitStore, member_name, row_order_hash
from training.checkpoint import Checkpoint, Progress
from training.loop import Figures, OnEpoch, Run, fit, predict_rows
from training.parallel import workers
from training.provenance import provenance
from training.watch import event_file, mlflow_run

Kind = Literal["teacher", "student"]


def member_key(
    name: str,
    corpus: Corpus,
    split: int,
    seed: int,
    responses: Path | None,
    identity: Mapping[str, Any],
) -> LogitKey:
    """Where the logits of such a member are: all that changes it has a fingerprint.

    Args:
        name: what people call it.
        corpus: whose clips it learns.
        split: how many of them.
        seed: of everything random.
        responses: folder of impulse responses; None is the synthetic set.
        identity: recipe and whatever else changes it.
    """
    whole = {
        "corpus": corpus.identity(),
        "split": split,
        "seed": seed,
        "responses": impulse_responses.identity(responses),
        **identity,
    }
    return LogitKey(corpus.name, split, member_name(name, whole))


def weights_object(kind: Kind, member: str) -> str:
    """Name of the object that holds a member's weights."""
    return f"{kind}s/v1/{member}/weights.safetensors"


def record_object(kind: str, member: str) -> str:
    """Name of the object that holds a member's record and the figures of all its epochs."""
    return f"{kind}s/v1/{member}/record.json"


def learn_and_store(
    run: Run,
    key: LogitKey,
    kind: Kind,
    keep: nn.Module,
    record: dict[str, Any],
    store: LogitStore,
    on_epoch: OnEpoch,
) -> None:
    """Teach the run's module and store what it became, as member `key.member`.

    The logits of all clips are written last: what has logits is done. Until then there is a
    checkpoint, from which the same call goes on. Of several workers all call this and one writes.

    Args:
        run: what learns what.
        key: where the logits go.
        kind: "teacher" or "student".
        keep: the part of the run's module whose weights are stored.
        record: what the caller knows of the run; goes into the record and the footer.
        store: where to.
        on_epoch: called after each epoch with its figures.
    """
    folder = f"{kind}s/v1/{key.member}"
    events = _Events(store, folder)
    checkpoint = Checkpoint(store, f"{folder}/checkpoint.pt", on_save=events.write)
    started = time.monotonic()
    leads = workers().leads
    tracker = mlflow_run(key.corpus, key.member, record) if leads else nullcontext(_say_nothing)
    with tracker as track:
        progress = fit(run, checkpoint, _both(track, on_epoch))
    logits_NK = predict_rows(run, np.arange(len(run.feed.corpus)))
    if leads:
        events.write(progress)
        weights = safetensors.torch.save({k: v.contiguous() for k, v in keep.state_dict().items()})
        store.write_object(weights_object(kind, key.member), weights)
        record = record | {
            "kind": kind,
            "protocol": run.protocol,
            "epochs": progress.epochs_done,
            "best_epoch": progress.best_epoch,
            "training_s": sum(figures["took_s"] for figures in progress.history),
            "last_attempt_s": time.monotonic() - started,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            **provenance(run.feed.device),
        }
        with_history = json.dumps(record | {"history": progress.history}, indent=1)
        store.write_object(record_object(kind, key.member), with_history.encode())
        store.write(key, logits_NK, record, row_order=_row_order(run.feed.corpus))
        checkpoint.discard()
    # From here on all workers find the member in the store.
    workers().wait()


def store_views(run: Run, key: LogitKey, n_views: int, store: LogitStore) -> None:
    """Store the logits of views 1 to n_views - 1 of a member whose view 0 is stored.

    Args:
        run: with the member's weights in its module, and a feed of `audio.views.stored_views`.
        key: of view 0.
        n_views: how many in all.
        store: where to.
    """
    everything = np.arange(len(run.feed.corpus))
    record, row_order = store.record(key), _row_order(run.feed.corpus)
    for view_key in view_keys(key, n_views):
        if view_key not in store:
            logits_NK = predict_rows(run, everything, view_key.view)
            if workers().leads:
                heard = asdict(run.feed.augmentation)
                with_view = record | {"view": view_key.view, "view_augmentation": heard}
                store.write(view_key, logits_NK, with_view, row_order=row_order)


def view_keys(key: LogitKey, n_views: int) -> tuple[LogitKey, ...]:
    """Where views 0 to n_views - 1 of a member are."""
    return tuple(replace(key, view=view) for view in range(n_views))


def _row_order(corpus: Corpus) -> str:
    """The order in which the clips were predicted, for the store to compare with its own."""
    return row_order_hash(corpus.table["clip_id"].to_pylist())


class _Events:
    """Figures for TensorBoard beside the record: whole files, each from where the last one ended."""

    def __init__(self, store: LogitStore, folder: str) -> None:
        self._store, self._folder = store, folder

    def write(self, progress: Progress) -> None:
        """Store the epochs that are new; called before each checkpoint, so that both agree."""
        new = progress.history[progress.epochs_shown :]
        if new:
            name = f"events.out.tfevents.{progress.epochs_shown + 1:06d}.tutti"
            self._store.write_object(f"{self._folder}/{name}", event_file(new))
            progress.epochs_shown += len(new)


def _say_nothing(figures: Figures) -> None:
    """What the workers do that do not lead."""


def _both(first: Callable[[Figures], None], second: OnEpoch) -> OnEpoch:
    def on_epoch(figures: Figures) -> None:
        first(figures)
        second(figures)

    return on_epoch
