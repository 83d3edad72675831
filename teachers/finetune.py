"""A teacher learns a corpus and writes its logits to the store.

Dimensions: B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import Feed
from logit_store import LogitKey, LogitStore, member_name
from teachers.catalogue import build
from teachers.recipes import TeacherRecipe
from training import Batch, OnEpoch, Run, learn_and_store


def teacher_key(
    recipe: TeacherRecipe, corpus: Corpus, split: int, seed: int, responses: Path | None
) -> LogitKey:
    """Where the logits of such a teacher are: recipe, corpus, split and seed have a fingerprint."""
    identity = {
        "recipe": recipe,
        "corpus": corpus.identity(),
        "split": split,
        "seed": seed,
        "responses": impulse_responses.identity(responses),
    }
    return LogitKey(corpus.name, split, member_name(recipe.name, identity))


def finetune(
    recipe: TeacherRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    store: LogitStore,
    *,
    responses: Path | None,
    device: torch.device,
    on_epoch: OnEpoch = lambda figures: None,
) -> LogitKey:
    """Teach one teacher one split and store its logits of all clips, unless they are there.

    Args:
        recipe: what learns, and how.
        corpus: its `fit` clips are learnt from, its `select` clips decide when to stop.
        split: 5, 10, 25, 50 or 100.
        seed: of everything random.
        store: where checkpoints, weights, record and logits go.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to learn.
        on_epoch: called after each epoch with its figures.
    """
    key = teacher_key(recipe, corpus, split, seed, responses)
    if key in store:
        return key
    torch.manual_seed(seed)
    model = build(
        recipe.model, n_classes=len(corpus.scenes), weights=recipe.weights, **recipe.arguments
    ).to(device)

    def logits_of(inputs_BCFT: Tensor) -> Tensor:
        return model(inputs_BCFT)[0]

    def objective(batch: Batch) -> Tensor:
        return functional.cross_entropy(logits_of(batch.inputs_BCFT), batch.labels_B)

    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)
    run = Run(model, objective, logits_of, feed, split, recipe.training, seed)
    record = {"recipe": asdict(recipe), "seed": seed}
    learn_and_store(run, key, "teacher", model, record, store, on_epoch)
    return key
