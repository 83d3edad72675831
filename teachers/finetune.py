"""A teacher learns a corpus and writes its logits to the store.

Dimensions: B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from audio.clips import Corpus
from audio.feed import Feed
from audio.micirp import describe_responses
from audio.views import Augmentation, stored_views
from logit_store import LogitKey, LogitStore
from teachers.catalogue import build, find_architecture
from teachers.cost import measure_cost
from teachers.recipes import TeacherRecipe
from teachers.run import TeacherRun, list_teacher_keys, make_teacher_key
from teachers.weights import load_weights
from training import (
    Batch,
    OnEpoch,
    Run,
    fetch_weights,
    store_pool,
    store_views,
    train_and_store,
)
from training.cross_fit import cross_fit_and_store, open_parts
from training.label_loss import label_loss


def finetune(
    run: TeacherRun,
    corpus: Corpus,
    store: LogitStore,
    *,
    responses: Path | None,
    device: torch.device,
    n_views: int = 1,
    pools: Sequence[Corpus] = (),
    on_epoch: OnEpoch = lambda metrics: None,
) -> LogitKey:
    """Fine-tune one teacher on one split and store its logits of all clips, unless they are there.

    In a process group all workers call this, and train one teacher together.

    Args:
        run: what learns, and how.
        corpus: the teacher learns from its `fit` clips; its `select` clips decide when to stop.
        store: receives checkpoints, weights, record and logits.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to train.
        n_views: the number of views whose logits are stored; view 0 is the untouched clips.
        pools: other corpora whose clips the teacher predicts as well (`audio.pools.make_pool_corpus`).
        on_epoch: called after each epoch with its metrics.
    """
    key, recipe = make_teacher_key(run, corpus, responses), run.recipe
    if all(each in store for each in list_teacher_keys(key, n_views, [p.name for p in pools])):
        return key
    is_trained = key in store

    def open_feed(augmentation: Augmentation, of: Corpus = corpus) -> Feed:
        front_end, length = recipe.front_end, recipe.length
        return Feed.open(of, front_end, augmentation, responses, device, length=length)

    def make_run(feed: Feed, trained: LogitKey | None = None) -> Run:
        torch.manual_seed(run.seed)
        model = _load_model(run, trained, len(corpus.scenes), store).to(device)
        return make_teacher_run(run, model, feed)

    feed = open_feed(recipe.augmentation)
    if run.cross_fit is None:
        training_run = make_run(feed, key if is_trained else None)
    else:
        shell = make_teacher_run(run, _build_shell(recipe, len(corpus.scenes)).to(device), feed)
        training_run = open_parts(shell, key, "teacher", run.cross_fit, store)
    if not is_trained:
        record = {
            "recipe": asdict(recipe),
            "family": find_architecture(recipe.model).family,
            **asdict(measure_cost(training_run.module, feed.input_shape)),
            "seed": run.seed,
            "start": run.start,
            **_describe_private_weights(run),
            **describe_responses(responses),
        }
        if run.cross_fit is None:
            model = training_run.module
            train_and_store(training_run, key, "teacher", model, record, store, on_epoch)
        else:
            cross_fit_and_store(training_run, make_run, key, "teacher", record, store, on_epoch)
    heard = stored_views(recipe.front_end.sample_rate)
    if n_views > 1:
        store_views(replace(training_run, feed=open_feed(heard)), key, n_views, store)
    for pool in pools:
        store_pool(replace(training_run, feed=open_feed(heard, pool)), key, n_views, store)
    return key


def make_teacher_run(run: TeacherRun, model: nn.Module, feed: Feed) -> Run:
    """Return what the training loop takes to fine-tune a model.

    Args:
        run: gives recipe, split, seed and protocol.
        model: with the weights to start from, on the feed's device.
        feed: of the clips.
    """

    def compute_logits(inputs_BCFT: Tensor) -> Tensor:
        return model(inputs_BCFT)[0]

    def objective(batch: Batch) -> Tensor:
        return label_loss(compute_logits(batch.inputs_BCFT), batch.labels_B)

    return Run(
        model,
        objective,
        compute_logits,
        feed,
        run.split,
        run.recipe.training,
        run.seed,
        run.protocol,
        _list_head_layers(run.recipe.model),
    )


def _load_model(
    run: TeacherRun, trained: LogitKey | None, n_classes: int, store: LogitStore
) -> nn.Module:
    """Return the model with the weights that it starts from, or with those that it was trained to."""
    recipe = run.recipe
    member = trained.member if trained else run.start
    weights = "none" if member is not None else recipe.weights
    if member is None and run.private_weights is not None:
        weights = run.private_weights.fetch()
    model = build(
        recipe.model, n_classes=n_classes, weights=weights, store=store, **recipe.arguments
    )
    if member is not None:
        file = fetch_weights(store, "teacher", member)
        # Between two stages no head is kept, even if the number of classes agrees.
        head = _list_head_layers(recipe.model)
        load_weights(model, file, head, fresh_head=trained is None)
    return model


def _build_shell(recipe: TeacherRecipe, n_classes: int) -> nn.Module:
    """Return a model whose weights do not matter: those of trained models are loaded into it."""
    return build(recipe.model, n_classes=n_classes, weights="none", **recipe.arguments)


def _describe_private_weights(run: TeacherRun) -> dict[str, str]:
    """Return what a record says of weights whose address is not public."""
    private = run.private_weights
    return {} if private is None else {"start_weights_sha256": private.sha256}


def _list_head_layers(model: str) -> tuple[str, ...]:
    """Return all layers of the head, including those that do not depend on the classes.

    The catalogue names the layer that depends on them, one numbered layer of the head:
    `classifier.5` of `classifier`.
    """
    heads = (layer.rpartition(".") for layer in find_architecture(model).head)
    return tuple(dict.fromkeys(h if n.isdigit() else f"{h}{dot}{n}" for h, dot, n in heads))
