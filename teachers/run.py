"""One teacher to fine-tune: what it is called, where its logits are, and whether clips fit it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from audio.clips import Corpus
from logit_store import LogitKey
from redact import strip_secrets
from teachers.catalogue import find_architecture
from teachers.errors import UnfitClips
from teachers.private import PrivateWeights
from teachers.recipes import TeacherRecipe
from training.keys import list_view_keys, make_member_key
from training.recipe import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherRun:
    """One teacher that learns one split of a corpus."""

    recipe: TeacherRecipe
    split: int
    """5, 10, 25, 50 or 100."""
    seed: int = 0
    """The seed of everything random."""
    protocol: Protocol = "honest"
    start: str | None = None
    """The member whose weights it starts from: the result of its recipe's first stage."""
    private_weights: PrivateWeights | None = None
    """The recipe's weights, if they are at an address with secrets, which the recipe lacks."""
    cross_fit: int | None = None
    """The number of models of which each learns from all parts of `fit` but one; None: one model learns
    from all of `fit`."""

    @property
    def name(self) -> str:
        """The name that people see."""
        ending = "" if self.protocol == "honest" else f" ({self.protocol} protocol)"
        if self.cross_fit is not None:
            ending += f" cross-fitted {self.cross_fit}"
        return f"{self.recipe.name} split {self.split} seed {self.seed}{ending}"


def make_teacher_key(run: TeacherRun, corpus: Corpus, responses: Path | None) -> LogitKey:
    """Return the key of the teacher's logits.

    Raises:
        ValueError: the recipe has a first stage and nothing to start from, or the reverse; or the
            address of its weights holds secrets; or it is cross-fitted by the published protocol,
            or in fewer than two parts.
    """
    if (run.recipe.first_stage is None) != (run.start is None):
        raise ValueError(
            f"teacher recipe {run.recipe.name} starts from {run.start!r}; a recipe with a first "
            "stage starts from the result of that stage, one without from its own weights"
        )
    if strip_secrets(run.recipe.weights) != run.recipe.weights:
        raise ValueError(
            f"teacher recipe {run.recipe.name}: the address of its weights holds a password or a query, "
            "and recipes are public: give it as TeacherRun.private_weights"
        )
    if run.cross_fit is not None and (run.cross_fit < 2 or run.protocol != "honest"):
        raise ValueError(
            f"teacher recipe {run.recipe.name}: cross_fit={run.cross_fit} by the {run.protocol} protocol, "
            "expected 2 parts or more of fold fit, and the honest protocol"
        )
    identity = {"recipe": run.recipe, "protocol": run.protocol, "start": run.start}
    if run.private_weights is not None:
        identity |= {"weights_sha256": run.private_weights.sha256}
    if run.cross_fit is not None:
        identity |= {"cross_fit": run.cross_fit}
    return make_member_key(run.recipe.name, corpus, run.split, run.seed, responses, identity)


def list_teacher_keys(key: LogitKey, n_views: int, pools: Sequence[str]) -> tuple[LogitKey, ...]:
    """Return the keys of all that a teacher predicts: its corpus, then pools, views 0 to n_views - 1.

    Args:
        key: of view 0 of its corpus.
        n_views: the number of views.
        pools: names of the pools.
    """
    corpora = (key.corpus, *pools)
    return tuple(
        view for name in corpora for view in list_view_keys(replace(key, corpus=name), n_views)
    )


def check_input(recipe: TeacherRecipe, corpus: Corpus) -> None:
    """Make sure that the recipe's model takes the corpus's clips.

    Raises:
        UnfitLength: the clips cannot be brought to the recipe's length.
        UnfitClips: the model takes other lengths or mel bands; says what to change.
    """
    front_end, model = recipe.front_end, find_architecture(recipe.model)
    n_samples = recipe.length.count_samples(corpus.clip_duration_s, front_end.sample_rate)
    _, n_bands, n_frames = front_end.compute_shape(n_samples)
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
