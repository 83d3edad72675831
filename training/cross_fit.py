"""A member of K models: each learns from all parts of `fit` but one, and predicts the part that it left out.

Each model is a run of its own with a folder of its own, `teachers/v1/MEMBER/part_1` ...: checkpoint,
weights, record, curves. The member's logits and record are written last, as those of any member.
"""

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median_low
from typing import Any

import numpy as np
import safetensors.torch
from torch import nn

from audio.feed import Feed
from audio.parts import draw_parts, leave_out
from logit_store import LogitKey, LogitStore
from training.checkpoint import Checkpoint
from training.epoch_metrics import EpochMetrics, OnEpoch
from training.keys import MemberKind, hash_clip_order, locate_record, locate_weights
from training.member import EventFiles, describe_result, encode_weights, train_module
from training.parallel import WorkerGroup
from training.parts import Parts
from training.prediction import predict_rows
from training.provenance import describe_provenance
from training.run import Run
from training.stored_weights import fetch_weights

MakeRun = Callable[[Feed], Run]
"""From the feed of a corpus without one part to the run of a fresh module, which learns from it."""


def open_parts(run: Run, key: LogitKey, kind: MemberKind, n_parts: int, store: LogitStore) -> Run:
    """Return a run that predicts as the K models of a member do; they need not be trained yet.

    Args:
        run: with a module of their architecture, whose weights do not matter, and the whole corpus.
        key: of the member's logits.
        kind: "teacher" or "student".
        n_parts: K.
        store: holds their weights.
    """
    module, corpus = run.module, run.feed.corpus

    def load(part: int) -> None:
        file = fetch_weights(store, kind, key.member, part=part + 1)
        module.load_state_dict(safetensors.torch.load_file(file))

    parts_N = draw_parts(corpus, run.split, n_parts)
    return replace(run, parts=Parts(corpus.name, parts_N, n_parts, load))


def cross_fit_and_store(
    whole: Run,
    make_run: MakeRun,
    key: LogitKey,
    kind: MemberKind,
    record: dict[str, Any],
    store: LogitStore,
    on_epoch: OnEpoch,
) -> None:
    """Train the models of a member one after the other, and store the result as `key.member`.

    A model that is stored is not trained again, and the one that was interrupted continues from its
    checkpoint: killed anywhere, the same call goes on. In a process group all workers call this.

    Args:
        whole: of `open_parts`; predicts once all models are trained.
        make_run: makes each model's run.
        key: of the logits.
        kind: "teacher" or "student".
        record: what the caller knows of the member; goes into the record and the footer.
        store: receives everything.
        on_epoch: called after each epoch; counts the epochs of all models.
    """
    started, workers, parts = time.monotonic(), WorkerGroup.current(), whole.parts
    if parts is None:
        raise ValueError(f"{key}: the run that predicts has no parts; expected one of open_parts")
    for part in range(parts.n_parts):
        if locate_record(kind, key.member, part + 1) not in store.objects:
            feed = copy.copy(whole.feed)
            feed.corpus = leave_out(feed.corpus, whole.split, parts.parts_N == part)
            counted = count_on(on_epoch, part, parts.n_parts)
            run = make_run(feed)
            train_part(run, run.module, part, key, kind, record, store, counted)
    logits_NK = predict_rows(whole, np.arange(len(whole.feed.corpus)))
    if workers.leads:
        records = [
            store.objects.read_json(locate_record(kind, key.member, part + 1))
            for part in range(parts.n_parts)
        ]
        record = record | _join_records(records) | describe_provenance(whole.feed.device)
        record |= {"last_attempt_s": time.monotonic() - started}
        history = average_histories([each["history"] for each in records])
        store.objects.write_json(locate_record(kind, key.member), record | {"history": history})
        store.write(key, logits_NK, record, row_order=hash_clip_order(whole.feed.corpus))
    workers.wait()


def train_part(
    run: Run,
    keep: nn.Module,
    part: int,
    key: LogitKey,
    kind: MemberKind,
    record: dict[str, Any],
    store: LogitStore,
    on_epoch: OnEpoch,
) -> None:
    """Train one model of a member, and store its weights and then its record: one with a record is done.

    Args:
        run: what learns what.
        keep: the part of the run's module whose weights are stored.
        part: which model, counted from 0.
        key: of the member's logits.
        kind: "teacher" or "student".
        record: what the caller knows of the model.
        store: receives everything.
        on_epoch: called after each epoch with its metrics.
    """
    started, workers = time.monotonic(), WorkerGroup.current()
    folder = f"{kind}s/v1/{key.member}/part_{part + 1}"
    events = EventFiles(store, folder)
    checkpoint = Checkpoint(store, f"{folder}/checkpoint.pt", on_save=events.write)
    name = f"{key.member} part {part + 1}"
    progress = train_module(run, checkpoint, (key.corpus, name), record, on_epoch)
    if workers.leads:
        events.write(progress)
        weights = encode_weights(keep)
        store.objects.write(locate_weights(kind, key.member, part + 1), weights)
        known = record | describe_result(run, kind, progress, started, weights)
        known |= {"part": part + 1, "history": progress.history}
        store.objects.write_json(locate_record(kind, key.member, part + 1), known)
        checkpoint.discard()
    workers.wait()


def count_on(on_epoch: OnEpoch, part: int, n_parts: int) -> OnEpoch:
    """Make a function that passes on the epochs of a model as those of all models in a row."""

    def pass_on(metrics: EpochMetrics) -> None:
        # A model that stopped early skips the rest of its epochs.
        epoch, max_epochs = part * metrics.max_epochs + metrics.epoch, n_parts * metrics.max_epochs
        left_s = metrics.took_s * (max_epochs - epoch)
        on_epoch(replace(metrics, epoch=epoch, max_epochs=max_epochs, time_left_s=left_s))

    return pass_on


def _join_records(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a member's record says of its models, by their records."""
    names = ("epochs", "best_epoch", "training_s", "weights_sha256")
    return {
        "kind": records[0]["kind"],
        "protocol": records[0]["protocol"],
        "cross_fit": len(records),
        "parts": [{name: each[name] for name in names} for each in records],
        "epochs": max(each["epochs"] for each in records),
        "best_epoch": median_low(each["best_epoch"] for each in records),
        "training_s": sum(each["training_s"] for each in records),
    }


def average_histories(histories: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Return one learning curve for several runs: each metric is the mean over those that got so far.

    Times grow from epoch to epoch, as an epoch counts as over when the last run is through it.
    """
    joined: list[dict[str, float]] = []
    for index in range(max(map(len, histories))):
        reached = [history[index] for history in histories if index < len(history)]
        metrics = {name: fmean(each[name] for each in reached) for name in reached[0]}
        ended = [each["ended"] for each in (*joined[-1:], *reached) if "ended" in each]
        joined.append(metrics | ({"ended": max(ended)} if ended else {}))
    return joined
