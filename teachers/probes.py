"""Probes: teachers that are a linear head on the embeddings of frozen networks.

`probe:A` is a head on backbone A, `probe:A+B` one on the embeddings of both, side by side. How it is
fitted stands in `teachers.linear_head`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio import impulse_responses
from audio.clips import Corpus
from audio.errors import CorpusError
from logit_store import EmbeddingKey, LogitKey, name_member, strip_fingerprint
from teachers.backbones import Backbone, name_backbone
from teachers.linear_head import L2_GRID, PARTS_HELD_OUT
from teachers.recipes import RECIPES, TeacherRecipe, find_teacher_recipes
from training.keys import make_member_key
from training.recipe import Protocol, find_learning_folds

PROBE = "probe:"
"""How the name of a probe begins."""
PROBES = "probes"
"""What stands for all of `PROBE_NAMES`."""
PROBE_NAMES = ("probe:aisfx", "probe:mn10_as", "probe:passt", "probe:aisfx+mn10_as+passt")
"""The set: effects, AudioSet by a convolutional network, AudioSet by a transformer, and all of them (OURS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRecipe:
    """Everything that decides what a probe becomes, except corpus, split, seed, protocol and backbones' weights."""

    name: str
    backbones: tuple[str, ...]
    """The labels of the networks whose embeddings it takes, side by side in this order."""
    n_views: int = 1
    """How many views of each clip it learns from; view 0 is the untouched clip."""
    l2_grid: tuple[float, ...] = L2_GRID
    """The strengths of the penalty that a cross-validation within the learning clips compares."""
    n_parts: int = PARTS_HELD_OUT
    """Into how many parts it deals their recordings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeRun:
    """One probe that learns one split of a corpus."""

    recipe: ProbeRecipe
    backbones: tuple[Backbone, ...]
    """In the order of the recipe's labels."""
    split: int
    """5, 10, 25, 50 or 100."""
    seed: int = 0
    """Deals recordings to the parts of the cross-validation."""
    protocol: Protocol = "honest"
    cross_fit: int | None = None
    """Number of heads, each of which leaves out a part of the recordings; None is one head for all."""

    @property
    def name(self) -> str:
        """The name that people see."""
        ending = "" if self.protocol == "honest" else f" ({self.protocol} protocol)"
        if self.cross_fit is not None:
            ending += f" cross-fitted {self.cross_fit}"
        return f"{self.recipe.name} split {self.split} seed {self.seed}{ending}"


@dataclass(frozen=True, slots=True)
class WantedTeachers:
    """The teachers that some names stand for."""

    recipes: list[TeacherRecipe]
    """Those that are fine-tuned."""
    probes: list[tuple[str, ...]]
    """The names of each probe's backbones, as typed."""


def find_wanted_teachers(patterns: Sequence[str]) -> WantedTeachers:
    """Return the teachers that names, globs and words stand for; each once, in the order of the names.

    Raises:
        ValueError: one stands for no teacher; names the nearest.
    """
    probes: dict[tuple[str, ...], None] = {}
    others = []
    for pattern in patterns:
        if pattern == PROBES:
            probes |= dict.fromkeys(map(_parse_probe, PROBE_NAMES))
        elif pattern.startswith(PROBE):
            probes[_parse_probe(pattern)] = None
        else:
            others.append(pattern)
    return WantedTeachers(find_teacher_recipes(others), list(probes))


def _parse_probe(name: str) -> tuple[str, ...]:
    backbones = tuple(name.removeprefix(PROBE).split("+"))
    repeated = [each for each in backbones if backbones.count(each) > 1]
    if not all(backbones) or repeated:
        fault = f"has {repeated[0]} twice" if repeated and all(repeated) else "lacks a name"
        raise ValueError(
            f"no probe {name}: it {fault}; expected probe:BACKBONE or probe:A+B, where a backbone is "
            "aisfx, a published checkpoint such as mn10_as or passt, timm:NAME, onnx:FILE, or a teacher "
            "of the store"
        )
    return backbones


def make_probe_recipe(backbones: Sequence[Backbone], n_views: int) -> ProbeRecipe:
    """Return the recipe of a probe on these backbones, which learns from so many views."""
    labels = tuple(backbone.label for backbone in backbones)
    name = "_".join(["probe", *labels])
    # A member of that name would be taken for a fine-tuned one.
    if name in RECIPES:
        raise ValueError(f"a teacher recipe is called {name}, as the probe on {labels} would be")
    return ProbeRecipe(name=name, backbones=labels, n_views=n_views)


def make_probe_key(run: ProbeRun, corpus: Corpus, responses: Path | None) -> LogitKey:
    """Return the key of the probe's logits.

    Args:
        run: the probe.
        corpus: whose clips it learns from.
        responses: folder of impulse responses; None for the synthetic set.
    """
    identity: dict[str, Any] = {
        "recipe": run.recipe,
        "protocol": run.protocol,
        "backbones": [dict(backbone.identity) for backbone in run.backbones],
    }
    if run.cross_fit is not None:
        identity |= {"cross_fit": run.cross_fit}
    return make_member_key(run.recipe.name, corpus, run.split, run.seed, responses, identity)


def list_embedding_keys(
    backbones: Sequence[Backbone], corpus: str, view: int, responses: Path | None
) -> list[EmbeddingKey]:
    """Return the keys of the embeddings of one view that a probe on these backbones takes.

    Args:
        backbones: the networks.
        corpus: name of the corpus whose clips they hear.
        view: 0 is the untouched clips.
        responses: folder of impulse responses of the other views; None for the synthetic set.
    """
    return [make_embedding_key(backbone, corpus, view, responses) for backbone in backbones]


def make_embedding_key(
    backbone: Backbone, corpus: str, view: int, responses: Path | None
) -> EmbeddingKey:
    """Return the key of a backbone's embeddings of one view of a corpus.

    Untouched clips hear no impulse response: their embeddings serve whatever the folder is.
    """
    return find_view_key(EmbeddingKey(corpus, name_backbone(backbone)), view, responses)


def find_view_key(untouched: EmbeddingKey, view: int, responses: Path | None) -> EmbeddingKey:
    """Return the key of a view of the embeddings whose key for view 0 is given; see `make_embedding_key`."""
    name = untouched.backbone
    if view > 0 and responses is not None:
        heard = {"backbone": name, "responses": impulse_responses.identify_responses(responses)}
        name = name_member(strip_fingerprint(name), heard)
    return EmbeddingKey(untouched.corpus, name, view)


def find_learning_rows(corpus: Corpus, split: int, protocol: Protocol) -> np.ndarray:
    """Return the rows of the clips that a probe learns from.

    Raises:
        CorpusError: a scene has no such clip.
    """
    folds = find_learning_folds(protocol)
    rows = corpus.rows(split, *folds)
    present = set(corpus.column("scene")[rows].tolist())
    lacking = [scene for scene in corpus.scenes if scene not in present]
    if lacking:
        raise CorpusError(
            f"corpus {corpus.name}, split {split}: fold {'/'.join(folds)} has no clip of "
            f"{', '.join(lacking)}, and a probe knows only the scenes that it learns from: take other "
            "--splits, or put clips of each scene into the split"
        )
    return rows
