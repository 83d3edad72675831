"""The loss of batches in which some clips have no label (B clips, K classes)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from echo import (
    LABELS_N,
    RECIPE_OF_ECHO,
    TEACHER_NK,
    Corpus,
    Echo,
    Feed,
    K,
    N,
    batch_of,
    normal,
)
from torch.nn import functional

from students import Challenge, Decoupled, Distillation, Mixup, TeacherLogits, UnfitPool
from students.losses import soft_label_loss, soften
from students.mixup import draw_mix
from students.objective import DistillationObjective
from training import Batch, PoolUse

FIT, POOL = np.arange(8), np.arange(8, N)
ROWS = [0, 9, 6, 11, 10]
IS_LABELLED = torch.tensor([True, False, True, False, False])


class PooledCorpus(Corpus):
    """Clips 8 to 11 are a pool: 8 and 9 of device a, 10 of a device that no clip of fit has."""

    def rows(self, split, *folds):
        return {"fit": FIT, "pool": POOL}[folds[0]]

    def column(self, name):
        return np.array(["a", "a", "a", "a", "b", "b", "b", "b", "a", "a", "c", "unknown"])


class PooledFeed(Feed):
    corpus = PooledCorpus()


def objective_of(recipe, use=PoolUse()):  # noqa: B008 - a frozen value
    soft = TeacherLogits("oracle", TEACHER_NK.numpy())
    return DistillationObjective(recipe, Echo(), PooledFeed(), 25, soft, use)


def pooled_batch(inputs=None):
    batch = batch_of(ROWS, inputs=inputs)
    labels_B = torch.where(IS_LABELLED, batch.labels_B, -1)
    return Batch(batch.inputs_BCFT, labels_B, batch.rows_B, batch.progress)


def distilling(**settings):
    return replace(RECIPE_OF_ECHO, distillation=Distillation(**settings))


def test_clips_without_a_label_leave_its_weight_to_the_soft_labels():
    batch = pooled_batch()
    logits_BK = batch.inputs_BCFT.flatten(1)
    soft = soft_label_loss(logits_BK, soften(TEACHER_NK[ROWS], 2.0), 2.0).mean()
    hard = functional.cross_entropy(
        logits_BK[IS_LABELLED], LABELS_N[ROWS][IS_LABELLED], reduction="sum"
    )
    for weight in (0.0, 0.25, 0.9):
        loss = objective_of(distilling(hard_label_weight=weight)).compute_loss(batch)
        expected = weight * hard / 5 + (1 - weight * 2 / 5) * soft
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_each_clip_teaches_with_a_label_or_without():
    recipe = distilling(hard_label_weight=0.5)
    inputs = normal(3, 5, 1, 1, K).requires_grad_()
    objective_of(recipe).compute_loss(pooled_batch(inputs)).backward()
    assert inputs.grad.flatten(1).abs().sum(1).min() > 0


def test_mixed_clips_have_the_part_of_a_label_that_is_in_them():
    recipe = replace(distilling(hard_label_weight=0.5), mixup=Mixup(one_share_per="clip"))
    batch = pooled_batch()
    torch.manual_seed(1)
    loss = objective_of(recipe).compute_loss(batch)
    torch.manual_seed(1)
    mix = draw_mix(recipe.mixup, 5, batch.inputs_BCFT.device)
    logits_BK = mix(batch.inputs_BCFT).flatten(1)
    targets_BK = functional.one_hot(LABELS_N[ROWS], K) * IS_LABELLED.float().unsqueeze(1)
    hard = functional.cross_entropy(logits_BK, mix(targets_BK))
    soft = soft_label_loss(logits_BK, mix(soften(TEACHER_NK[ROWS], 2.0)), 2.0).mean()
    share = mix(IS_LABELLED.float()).mean()
    expected = 0.5 * hard + (1 - 0.5 * share) * soft
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def device_gradient(batch, recipe):
    """Return the gradient of the device loss alone in the inputs, [B, K]."""
    gradients = []
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        objective = objective_of(replace(recipe, device_loss_weight=weight))
        inputs = batch.inputs_BCFT.clone().requires_grad_()
        torch.manual_seed(1)
        objective.compute_loss(replace(batch, inputs_BCFT=inputs)).backward()
        gradients.append(inputs.grad.flatten(1))
    return gradients[1] - gradients[0]


def test_the_discriminator_sees_only_clips_whose_device_a_clip_of_fit_has():
    gradient_BK = device_gradient(pooled_batch(), distilling())
    # Rows 0, 9, 6 are of devices a, a, b; 11 and 10 of devices that fit does not have.
    assert (gradient_BK.abs().sum(1) > 0).tolist() == [True, True, True, False, False]


def test_a_clip_that_is_mixed_with_a_known_device_is_seen_by_the_discriminator():
    recipe = replace(distilling(), mixup=Mixup(alpha=1.0))
    assert (device_gradient(pooled_batch(), recipe).abs().sum(1) > 0).sum() > 3


def test_a_device_that_no_clip_of_fit_has_is_no_target_of_a_mixed_clip():
    recipe = replace(distilling(), mixup=Mixup(alpha=1.0), device_loss_weight=1.0)
    device_N = objective_of(recipe).device_N
    # Clips of devices a and b are targets 0 and 1, those of c and of no known device none.
    assert device_N.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, -1, -1]


def test_a_batch_of_unknown_devices_has_no_device_loss():
    objective = objective_of(replace(distilling(), device_loss_weight=1.0), PoolUse(alone=True))
    batch = batch_of([10, 11, 10])
    batch = replace(batch, labels_B=torch.full((3,), -1))
    plain = objective_of(distilling(), PoolUse(alone=True))
    assert objective.compute_loss(batch).item() == plain.compute_loss(batch).item()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"distillation": Distillation(loss=Decoupled())}, "decoupled"),
        ({"challenge": Challenge()}, "rsc"),
        ({"distillation": None}, "learns from labels alone"),
        ({"model": "dsmn_model1", "two_tasks": True}, "two tasks"),
    ],
)
def test_what_needs_the_true_class_of_each_clip_is_refused(changes, what):
    with pytest.raises(UnfitPool, match=what):
        objective_of(replace(RECIPE_OF_ECHO, **changes))
