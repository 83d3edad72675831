"""A run from start to end: learn, then leave weights, record and logits in the store."""

import hashlib
import json
import time
from typing import Any, Literal

import numpy as np
import safetensors.torch
from torch import nn

from logit_store import LogitKey, LogitStore
from training.checkpoint import Checkpoint
from training.loop import OnEpoch, Run, fit, predict
from training.provenance import provenance


def learn_and_store(
    run: Run,
    key: LogitKey,
    kind: Literal["teacher", "student"],
    keep: nn.Module,
    record: dict[str, Any],
    store: LogitStore,
    on_epoch: OnEpoch,
) -> None:
    """Teach the run's module and store what it became, as member `key.member`.

    The logits of all clips are written last: what has logits is done. Until then each epoch leaves
    a checkpoint, from which the same call goes on.

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
    checkpoint = Checkpoint(store, f"{folder}/checkpoint.pt")
    started = time.monotonic()
    progress = fit(run, checkpoint, on_epoch)
    everything = np.arange(len(run.feed.corpus))
    logits_NK = predict(run.module, run.logits_of, run.feed.batches(everything))
    weights = safetensors.torch.save({k: v.contiguous() for k, v in keep.state_dict().items()})
    store.write_object(f"{folder}/weights.safetensors", weights)
    record = record | {
        "kind": kind,
        "epochs": progress.epochs_done,
        "best_epoch": progress.best_epoch,
        "training_s": sum(figures["took_s"] for figures in progress.history),
        "last_attempt_s": time.monotonic() - started,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **provenance(run.feed.device),
    }
    with_history = json.dumps(record | {"history": progress.history}, indent=1)
    store.write_object(f"{folder}/record.json", with_history.encode())
    store.write(key, logits_NK, record)
    checkpoint.discard()
