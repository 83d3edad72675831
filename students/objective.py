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

from audio.clips import UNKNOWN
from audio.feed import Feed
from students.adversary import Discriminator, reversal_strength, reverse_gradient
from students.challenge import challenge_features
from students.checks import check_embeddings, refuse_pool, refuse_several
from students.dsmn import DSMN
from students.features import FeatureTarget
from students.losses import decoupled_loss, dist_loss, soft_label_loss, standardize
from students.mixup import Mix, draw_mix, leave_unmixed
from students.recipe import Decoupled, Dist, Distillation, FeatureDistillation, StudentRecipe
from students.several import hard_loss, soft_loss
from students.soft import SoftLabels, TeacherLogits
from students.student import Student
from students.two_tasks import make_group_matrix, merge_losses
from training import Batch, PoolUse

MixClips = Callable[[Tensor], Tensor]
"""From values of a batch's clips, [B, ...], to the values of the mixed clips."""


class DistillationObjective(nn.Module):
    """A student, its discriminator and projection, and the loss that all minimise.

    Args:
        recipe: decides which losses.
        student: the student that is trained.
        feed: the corpus that it is trained on.
        split: 5, 10, 25, 50 or 100.
        soft: its teachers' logits; None for a student without teachers.
        pool: how it learns from the clips of the feed that have no label; None if there are none.

    Raises:
        UnfitSoftLabels: soft labels of other clips, classes or views; or there are no embeddings, and
            the recipe learns from them, or the reverse.
        ValueError: the recipe has two tasks, and a scene is in no group; or it needs the true class of
            each clip, and there is a pool, or clips have several labels.
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
        pool: PoolUse | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.student, self.feed = recipe, student, feed
        corpus, fit = feed.corpus, feed.corpus.rows(split, "fit")
        refuse_several(recipe, corpus)
        self.has_several_labels = corpus.has_several_labels
        learnt, pool_P, self.has_pool = fit, None, pool is not None
        self.known_N: np.ndarray | None = None
        if pool is not None:
            refuse_pool(recipe)
            pool_P = corpus.rows(split, "pool")
            learnt = pool_P if pool.alone else np.concatenate([fit, pool_P])
        self.soft_labels = None
        if recipe.distillation is not None and soft is not None:
            self.soft_labels = SoftLabels(soft, corpus, learnt, recipe.distillation)
        self.feature_target = _make_feature_target(recipe, student, soft, len(corpus), learnt)
        if recipe.two_tasks:
            self.register_buffer("group_KG", make_group_matrix(corpus.scenes), persistent=False)
        if recipe.device_loss_weight > 0:
            recording_devices = corpus.column("recording_device")
            known = np.unique(recording_devices[fit])
            # Only the clips that are learnt from have a meaningful index; the others are never read.
            index_N = np.searchsorted(known, recording_devices).astype(np.int64)
            if pool_P is not None:
                self.known_N = _find_known_devices(recording_devices, fit, pool_P)
                index_N[~self.known_N] = -1
            self.register_buffer("device_N", torch.from_numpy(index_N), persistent=False)
            self.discriminator = Discriminator(len(known), features=student.n_features)

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the loss: labels, soft labels, and what features should show, or should not.

        They should show what embeddings do, and not the recording device.
        """
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
        if self.feature_target is not None and isinstance(
            way := recipe.distillation, FeatureDistillation
        ):
            target_BE = mix(self.feature_target.look_up(batch.view, rows_B))
            feature_loss = self.feature_target.compute_loss(features_BD, target_BE)
            loss = loss + way.feature_weight * feature_loss
        if recipe.device_loss_weight > 0:
            device_loss = self._device_loss(features_BD, batch, rows_B, mix)
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
        """Return the loss of labels and soft labels, whose weights add up to 1.

        Clips without a label leave the weight of theirs to the soft labels of the batch.
        """
        hard, n_labelled = self._hard_loss(logits_BK, batch.labels_B, mix)
        settings, soft_labels = self.recipe.distillation, self.soft_labels
        if settings is None or soft_labels is None:
            return hard
        soft = self._soft_loss(logits_BK, batch, rows_B, mix, settings, soft_labels)
        weight = hard_weight = settings.hard_label_weight
        if self.has_pool:
            hard_weight = weight * n_labelled / len(logits_BK)
        return weight * hard + (1 - hard_weight) * soft

    def _hard_loss(
        self, logits_BK: Tensor, labels_B: Tensor, mix: MixClips
    ) -> tuple[Tensor, Tensor]:
        """Return the loss of the true labels, and the number of clips that have some."""
        if self.has_several_labels:
            return hard_loss(logits_BK, labels_B, mix)
        targets_BK = mix(_encode_one_hot(labels_B, logits_BK.shape[1]))
        # A clip without a label has no target, and adds nothing.
        return functional.cross_entropy(logits_BK, targets_BK), targets_BK.sum()

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
            case "divergence" if self.has_several_labels:
                loss_B = soft_loss(logits_BK, soft_BK, settings.temperature)
            case "divergence":
                loss_B = soft_label_loss(logits_BK, soft_BK, settings.temperature)
            case unknown:
                assert_never(unknown)
        weight_B = soft_labels.look_up_weights(batch.view, rows_B)
        loss = (loss_B if weight_B is None else mix(weight_B) * loss_B).mean()
        return loss / logits_BK.shape[1] if settings.reduction == "element_mean" else loss

    def _device_loss(
        self, features_BD: Tensor, batch: Batch, rows_B: Tensor, mix: MixClips
    ) -> Tensor:
        """Return the mean of the clips' losses; a clip whose device is not known has none."""
        n_clips, chosen_b = len(features_BD), self._choose_known(batch.rows_B, mix)
        if chosen_b is not None:
            # The discriminator's batch normalisation cannot learn from one clip.
            if len(chosen_b) < 2:
                return features_BD.new_zeros(())
            features_BD = features_BD[chosen_b]
        strength = reversal_strength(batch.progress)
        logits_bR = self.discriminator(reverse_gradient(features_BD, strength))
        targets_BR = mix(_encode_one_hot(self.device_N[rows_B], logits_bR.shape[1]))
        if chosen_b is None:
            return functional.cross_entropy(logits_bR, targets_BR)
        loss = functional.cross_entropy(logits_bR, targets_BR[chosen_b])
        return loss * len(chosen_b) / n_clips

    def _choose_known(self, rows_B: np.ndarray, mix: MixClips) -> Tensor | None:
        """Return the places in the batch with a known device in them; None is all of them."""
        if self.known_N is None:
            return None
        known_B = self.known_N[rows_B]
        if isinstance(mix, Mix):
            known_B = known_B | known_B[mix.partner_B.cpu().numpy()]
        return self.feed.to_device(np.flatnonzero(known_B))


def _make_feature_target(
    recipe: StudentRecipe,
    student: Student,
    soft: TeacherLogits | None,
    n_clips: int,
    learnt: np.ndarray,
) -> FeatureTarget | None:
    embeddings = None if soft is None else soft.embeddings
    check_embeddings(recipe, () if embeddings is None else embeddings.names)
    if embeddings is None or recipe.distillation is None:
        return None
    n_views = recipe.distillation.n_views or 1
    return FeatureTarget(student.n_features, embeddings, n_clips, learnt, n_views)


def _find_known_devices(devices_N: np.ndarray, fit: np.ndarray, pool_P: np.ndarray) -> np.ndarray:
    """Return whether the discriminator knows the device of each clip that is learnt from, bool [N].

    A clip of the pool is known if a clip of `fit` has the same device, and this has a name.
    """
    known_N = np.zeros(len(devices_N), dtype=bool)
    known_N[fit] = True
    pool_devices = devices_N[pool_P]
    known_N[pool_P] = np.isin(pool_devices, devices_N[fit]) & (pool_devices != UNKNOWN)
    return known_N


def _encode_one_hot(labels_B: Tensor, n_classes: int) -> Tensor:
    """Return [B, n_classes]; the row of a clip without a label, -1, is zeros."""
    classes = torch.arange(n_classes, device=labels_B.device)
    return (labels_B.unsqueeze(1) == classes).float()
