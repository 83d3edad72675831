"""The loss that a student minimises, composed from its recipe.

Dimensions: B clips in a batch, N clips of the corpus, K scenes, D features, C channels, F mel
bands, T frames.
"""

from collections.abc import Callable
from typing import assert_never

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audio.feed import Feed
from students.adversary import Discriminator, reversal_strength, reverse_gradient
from students.challenge import challenge_features
from students.dsmn import DSMN
from students.losses import decoupled_loss, dist_loss, soft_label_loss, standardize
from students.mixup import draw_mix, leave_unmixed
from students.recipe import Decoupled, Dist, Distillation, StudentRecipe
from students.soft import SoftLabels, TeacherLogits
from students.student import Student
from students.two_tasks import make_group_matrix, merge_losses
from training import Batch

MixClips = Callable[[Tensor], Tensor]
"""From values of a batch's clips, [B, ...], to the values of the mixed clips."""


class DistillationObjective(nn.Module):
    """A student, its discriminator, and the loss that both minimise.

    Args:
        recipe: decides which losses.
        student: the student that is trained.
        feed: the corpus that it is trained on.
        split: 5, 10, 25, 50 or 100.
        soft: its teachers' logits; None for a student without teachers.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views.
        ValueError: the recipe has two tasks, and a scene is in no group.
    """

    device_N: Tensor
    group_KG: Tensor

    def __init__(
        self,
        recipe: StudentRecipe,
        student: Student,
        feed: Feed,
        split: int,
        soft: TeacherLogits | None,
    ) -> None:
        super().__init__()
        self.recipe, self.student, self.feed = recipe, student, feed
        corpus = feed.corpus
        learnt = corpus.rows(split, "fit")
        self.soft_labels = None
        if recipe.distillation is not None and soft is not None:
            self.soft_labels = SoftLabels(soft, corpus, learnt, recipe.distillation)
        if recipe.two_tasks:
            self.register_buffer("group_KG", make_group_matrix(corpus.scenes), persistent=False)
        if recipe.device_loss_weight > 0:
            recording_devices = corpus.column("recording_device")
            known = np.unique(recording_devices[learnt])
            # Only the clips that are learnt from have a meaningful index; the others are never read.
            index_N = np.searchsorted(known, recording_devices).astype(np.int64)
            self.register_buffer("device_N", torch.from_numpy(index_N), persistent=False)
            self.discriminator = Discriminator(len(known), features=student.n_features)

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the loss: labels, soft labels, and the recording device that features should not show."""
        recipe, rows_B = self.recipe, self.feed.to_device(batch.rows_B)
        inputs_BCFT = batch.inputs_BCFT
        mix: MixClips = leave_unmixed
        if recipe.mixup is not None:
            mix = draw_mix(recipe.mixup, len(inputs_BCFT), inputs_BCFT.device)
        features_BD, logits_BK, groups_BG = self._forward(mix(inputs_BCFT), batch.labels_B)
        loss = self._scene_loss(logits_BK, batch, rows_B, mix)
        if groups_BG is not None:
            targets_BG = mix(self.group_KG[batch.labels_B])
            group_loss = functional.cross_entropy(groups_BG, targets_BG)
            loss = merge_losses(loss, group_loss, list(self.student.parameters()))
        if recipe.device_loss_weight > 0:
            device_loss = self._device_loss(features_BD, rows_B, mix, batch.progress)
            loss = loss + recipe.device_loss_weight * device_loss
        return loss

    def _forward(
        self, inputs_BCFT: Tensor, labels_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return features, logits of the scenes, and logits of the groups if there are two tasks."""
        student, challenge = self.student, self.recipe.challenge
        if self.recipe.two_tasks and isinstance(student, DSMN):
            features_BD = student.features(inputs_BCFT)
            logits_BK, groups_BG = student.heads(features_BD)
            return features_BD, logits_BK.float(), groups_BG.float()
        if challenge is None:
            features_BD, logits_BK = student.features_and_logits(inputs_BCFT)
        else:
            features_BD = student.features(inputs_BCFT)
            seen_BD = challenge_features(features_BD, student.classifier, labels_B, challenge)
            logits_BK = student.classifier(seen_BD)
        # On a GPU the model computes in bfloat16, which is too coarse for the losses.
        return features_BD, logits_BK.float(), None

    def _scene_loss(self, logits_BK: Tensor, batch: Batch, rows_B: Tensor, mix: MixClips) -> Tensor:
        targets_BK = mix(_encode_one_hot(batch.labels_B, logits_BK.shape[1]))
        hard = functional.cross_entropy(logits_BK, targets_BK)
        settings, soft_labels = self.recipe.distillation, self.soft_labels
        if settings is None or soft_labels is None:
            return hard
        soft = self._soft_loss(logits_BK, batch, rows_B, mix, settings, soft_labels)
        return settings.hard_label_weight * hard + (1 - settings.hard_label_weight) * soft

    def _soft_loss(
        self,
        logits_BK: Tensor,
        batch: Batch,
        rows_B: Tensor,
        mix: MixClips,
        settings: Distillation,
        soft_labels: SoftLabels,
    ) -> Tensor:
        soft_BK = mix(soft_labels.look_up(batch.view, rows_B))
        if settings.standardized:
            logits_BK = standardize(logits_BK)
        match settings.loss:
            case Dist() as weights:
                return dist_loss(logits_BK, soft_BK, settings.temperature, weights)
            case Decoupled() as weights:
                # No mixing: a recipe with both is refused.
                teacher_BK = soft_labels.look_up_logits(batch.view, rows_B)
                loss_B = decoupled_loss(
                    logits_BK, teacher_BK, batch.labels_B, settings.temperature, weights
                )
            case "divergence":
                loss_B = soft_label_loss(logits_BK, soft_BK, settings.temperature)
            case unknown:
                assert_never(unknown)
        weight_B = soft_labels.look_up_weights(batch.view, rows_B)
        loss = (loss_B if weight_B is None else mix(weight_B) * loss_B).mean()
        return loss / logits_BK.shape[1] if settings.reduction == "element_mean" else loss

    def _device_loss(
        self, features_BD: Tensor, rows_B: Tensor, mix: MixClips, progress: float
    ) -> Tensor:
        logits_BR = self.discriminator(reverse_gradient(features_BD, reversal_strength(progress)))
        targets_BR = mix(_encode_one_hot(self.device_N[rows_B], logits_BR.shape[1]))
        return functional.cross_entropy(logits_BR, targets_BR)


def _encode_one_hot(labels_B: Tensor, n_classes: int) -> Tensor:
    return functional.one_hot(labels_B, n_classes).float()
