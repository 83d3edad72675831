"""A student learns a corpus, from an ensemble's logits or from the labels alone.

Dimensions: B clips in a batch, N clips of the corpus, K classes, D features.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audio.clips import Corpus
from audio.feed import Feed
from logit_store import LogitKey, LogitStore
from students.adversary import Discriminator, reversal_strength, reverse_gradient
from students.complexity import measure
from students.isotropic import Isotropic
from students.losses import distillation_loss
from students.recipes import StudentRecipe
from training import Batch, OnEpoch, Run, learn_and_store, member_key

ARCHITECTURES = {"isotropic": Isotropic}


@dataclass(frozen=True, eq=False, slots=True)
class Soft:
    """What a student is taught by: logits of every clip, and the name of whose they are."""

    name: str
    logits_NK: np.ndarray


def build(name: str, *, n_classes: int, **arguments: Any) -> Isotropic:
    """A student: (B, 1, F, T) -> logits [B, K], with `.features` (B, D) and `.classifier`.

    Raises:
        ValueError: no such student.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"no student {name}; there are: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name](n_classes=n_classes, **arguments)


def student_key(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    responses: Path | None,
    ensemble: str | None,
) -> LogitKey:
    """Where the logits of such a student are; `ensemble` names its teachers, None is none.

    Raises:
        ValueError: the recipe distils and there is no ensemble, or the reverse.
    """
    if (recipe.distillation is None) != (ensemble is None):
        raise ValueError(
            f"student recipe {recipe.name} with distillation {recipe.distillation} and ensemble "
            f"{ensemble}: a student that distils needs an ensemble, one alone takes none"
        )
    identity = {"recipe": recipe, "ensemble": ensemble}
    return member_key(recipe.name, corpus, split, seed, responses, identity)


def distill(
    recipe: StudentRecipe,
    corpus: Corpus,
    split: int,
    seed: int,
    store: LogitStore,
    soft: Soft | None,
    *,
    responses: Path | None,
    device: torch.device,
    on_epoch: OnEpoch = lambda figures: None,
) -> LogitKey:
    """Teach one student one split and store its logits of all clips, unless they are there.

    Args:
        recipe: what learns, and how.
        corpus: its `fit` clips are learnt from.
        split: 5, 10, 25, 50 or 100.
        seed: of everything random.
        store: where checkpoints, weights, record and logits go.
        soft: the ensemble's logits of the untouched clips; None for a student alone.
        responses: folder of impulse responses for augmentation; None for the synthetic set.
        device: where to learn.
        on_epoch: called after each epoch with its figures.
    """
    ensemble = soft.name if soft else None
    key = student_key(recipe, corpus, split, seed, responses, ensemble)
    if key in store:
        return key
    torch.manual_seed(seed)
    feed = Feed.open(corpus, recipe.front_end, recipe.augmentation, responses, device)
    student = build(recipe.model, n_classes=len(corpus.scenes), **recipe.arguments)
    complexity = measure(student, feed.input_shape)
    objective = _Objective(recipe, student, feed, split, soft).to(device)
    run = Run(objective, objective.loss, student, feed, split, recipe.training, seed)
    record = {
        "recipe": asdict(recipe),
        "seed": seed,
        "ensemble": ensemble,
        "macs": complexity.macs,
        "params": complexity.params,
    }
    learn_and_store(run, key, "student", student, record, store, on_epoch)
    return key


class _Objective(nn.Module):
    """A student, its discriminator, and the loss that both minimise."""

    def __init__(
        self,
        recipe: StudentRecipe,
        student: Isotropic,
        feed: Feed,
        split: int,
        soft: Soft | None,
    ) -> None:
        super().__init__()
        self.recipe, self.student = recipe, student
        self.teacher_logits_NK = None if soft is None else torch.from_numpy(soft.logits_NK)
        if recipe.device_loss_weight > 0:
            recording_devices = feed.corpus.column("recording_device")
            known = np.unique(recording_devices[feed.corpus.rows(split, "fit")])
            # Of the clips learnt from; elsewhere the index has no meaning and is never read.
            self.device_index_N = np.searchsorted(known, recording_devices).astype(np.int64)
            self.discriminator = Discriminator(len(known), features=student.n_features)

    def loss(self, batch: Batch) -> Tensor:
        """Labels, soft labels and the recording device that must not be told from the features."""
        features_BD = self.student.features(batch.inputs_BCFT)
        loss = self._scene_loss(self.student.classifier(features_BD), batch)
        if self.recipe.device_loss_weight > 0:
            reversed_BD = reverse_gradient(features_BD, reversal_strength(batch.progress))
            devices_B = torch.from_numpy(self.device_index_N[batch.rows_B]).to(loss.device)
            device_loss = functional.cross_entropy(self.discriminator(reversed_BD), devices_B)
            loss = loss + self.recipe.device_loss_weight * device_loss
        return loss

    def _scene_loss(self, logits_BK: Tensor, batch: Batch) -> Tensor:
        settings = self.recipe.distillation
        if settings is None or self.teacher_logits_NK is None:
            return functional.cross_entropy(logits_BK, batch.labels_B)
        return distillation_loss(
            logits_BK,
            self.teacher_logits_NK[batch.rows_B].to(logits_BK.device),
            batch.labels_B,
            temperature=settings.temperature,
            hard_label_weight=settings.hard_label_weight,
            reduction=settings.reduction,
        )
