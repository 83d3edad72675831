"""A teacher learns a corpus and writes its logits to the store.

Dimensions: B clips in a batch, K classes, C channels, F mel bands, T frames.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from audio import impulse_responses
from audio.clips import Corpus
from audio.feed import Feed
from audio.views import Augmentation, stored_views
from logit_store import LogitKey, LogitStore
from teachers.catalogue import architecture, build
from teachers.cost import measure
from teachers.recipes import TeacherRecipe
from teachers.weights import load_weights
from training import (
    Batch,
    OnEpoch,
    Protocol,
    Run,
    learn_and_store,
    member_key,
    store_views,
    view_keys,
    weights_object,
)


class UnfitClips(ValueError):
    """A teacher's model does not take a corpus's clips through its front-end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRun:
    """One teacher that learns one split of a corpus."""

    recipe: TeacherRecipe
    split: int
    """5, 10, 25, 50 or 100."""
    seed: int = 0
    """Of everything random."""
    protocol: Protocol = "honest"
    start: str | None = None
    """Member whose weights it starts from: what its recipe's first stage became."""

    @property
    def name(self) -> str:
        """What people see."""
        ending = "" if self.protocol == "honest" else f" ({self.protocol} protocol)"
        return f"{self.recipe.name} split {self.split} seed {self.seed}{ending}"


def teacher_key(run: TeacherRun, corpus: Corpus, responses: Path | None) -> LogitKey:
    """Where the logits of such a teacher are.

    Raises:
        ValueError: the recipe has a first stage and nothing to start from, or the reverse.
    """
    if (run.recipe.first_stage is None) != (run.start is None):
        raise ValueError(
            f"teacher recipe {run.recipe.name} starts from {run.start!r}; one with a first stage "
            "starts from what that became, one without from its own weights"
        )
    identity = {"recipe": run.recipe, "protocol": run.protocol, "start": run.start}
    return member_key(run.recipe.name, corpus, run.split, run.seed, responses, identity)


def check_input(recipe: TeacherRecipe, corpus: Corpus) -> None:
    """Make sure that the recipe's model takes the corpus's clips.

    Raises:
        UnfitLength: they cannot be brought to the recipe's length.
        UnfitClips: the model takes other lengths or mel bands; says how else it could be.
    """
    front_end, model = recipe.front_end, architecture(recipe.model)
    n_samples = recipe.length.samples(corpus.clip_duration_s, front_end.sample_rate)
    _, n_bands, n_frames = front_end.shape(n_samples)
    if model.mel_bands not in (None, n_bands):
        raise UnfitClips(
            f"teacher recipe {recipe.name}: its front-end has {n_bands} mel bands, {recipe.model} "
            f"takes {model.mel_bands}"
        )
    longest = model.longest_frames
    if n_frames < model.shortest_frames or (longest is not None and n_frames > longest):
        most = "any number" if longest is None else longest
        raise UnfitClips(
            f"teacher recipe {recipe.name}: clips of {corpus.clip_duration_s:g} s (corpus "
            f"{corpus.name}), taken as {recipe.length.how}, are {n_frames} frames; {recipe.model} "
            f"takes {model.shortest_frames} to {most}: see --length (crop:SECONDS, repeat:SECONDS, "
            "pad:SECONDS)"
        )


def finetune(
    run: TeacherRun,
    corpus: Corpus,
    store: LogitStore,
    *,
    responses: Path | None,
    device: torch.device,
    n_views: int = 1,
    on_epoch: OnEpoch = lambda figures: None,
) -> LogitKey:
    """Teach one teacher one split and store its logits of all clips, unless they are there.

    In a process group all its workers call this, and teach one teacher together.

    Args:
        run: what learns, and how.
        corpus: its `fit` clips are learnt from, its `select` clips decide when to stop.
        store: where checkpoints, weights, record and logits go.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to learn.
        n_views: logits of so many views are stored, from view 0, the untouched clips.
        on_epoch: called after each epoch with its figures.
    """
    key, recipe = teacher_key(run, corpus, responses), run.recipe
    if all(view in store for view in view_keys(key, n_views)):
        return key
    is_taught = key in store
    torch.manual_seed(run.seed)
    model = _start(run, key if is_taught else None, len(corpus.scenes), store).to(device)

    def logits_of(inputs_BCFT: Tensor) -> Tensor:
        return model(inputs_BCFT)[0]

    def objective(batch: Batch) -> Tensor:
        return functional.cross_entropy(logits_of(batch.inputs_BCFT), batch.labels_B)

    def feed(augmentation: Augmentation) -> Feed:
        front_end, length = recipe.front_end, recipe.length
        return Feed.open(corpus, front_end, augmentation, responses, device, length=length)

    learning = Run(
        model,
        objective,
        logits_of,
        feed(recipe.augmentation),
        run.split,
        recipe.training,
        run.seed,
        run.protocol,
        _whole_head(recipe.model),
    )
    if not is_taught:
        record = {
            "recipe": asdict(recipe),
            "family": architecture(recipe.model).family,
            **asdict(measure(model, learning.feed.input_shape)),
            "seed": run.seed,
            "start": run.start,
            "responses": impulse_responses.identity(responses),
        }
        learn_and_store(learning, key, "teacher", model, record, store, on_epoch)
    if n_views > 1:
        hearing = replace(learning, feed=feed(stored_views(recipe.front_end.sample_rate)))
        store_views(hearing, key, n_views, store)
    return key


def _start(
    run: TeacherRun, taught: LogitKey | None, n_classes: int, store: LogitStore
) -> nn.Module:
    """The model with the weights that it has at first, or that it was taught."""
    recipe = run.recipe
    member = taught.member if taught else run.start
    weights = recipe.weights if member is None else "none"
    model = build(
        recipe.model, n_classes=n_classes, weights=weights, store=store, **recipe.arguments
    )
    if member is not None:
        file = store.local_object(weights_object("teacher", member))
        # Between two stages no head is kept, even where the number of classes agrees.
        load_weights(model, file, _whole_head(recipe.model), fresh_head=taught is None)
    return model


def _whole_head(model: str) -> tuple[str, ...]:
    """The head with all its layers, also those that do not depend on the classes.

    What depends on them is one numbered layer of it: `classifier.5` of `classifier`.
    """
    heads = (layer.rpartition(".") for layer in architecture(model).head)
    return tuple(dict.fromkeys(h if n.isdigit() else f"{h}{dot}{n}" for h, dot, n in heads))
