from dataclasses import replace

import numpy as np
import pytest
import student_golden
import torch
from echo import (
    LABELS_N,
    RECIPE_OF_ECHO,
    SCENES,
    TEACHER_NK,
    K,
    N,
    batch_of,
    normal,
    objective_of,
)
from torch import nn
from torch.nn import functional

from logit_store import fingerprint
from students import (
    Challenge,
    Decoupled,
    Dist,
    Distillation,
    Mixup,
    UnfitSoftLabels,
    build,
    drop_teachers,
)
from students.challenge import challenge_features
from students.groups import GROUP_OF_SCENE
from students.losses import (
    confidence,
    decoupled_loss,
    dist_loss,
    soft_label_loss,
    soften,
    standardize,
)
from students.mixup import draw_mix
from training import Batch

MODEL_OF_TWO_TASKS = "dsmn_model2"


def distilling(**settings):
    return replace(RECIPE_OF_ECHO, distillation=Distillation(**settings))


BATCH = batch_of([3, 1, 4, 8, 11])
LOGITS_BK = BATCH.inputs_BCFT.flatten(1)
TEACHER_BK = TEACHER_NK[BATCH.rows_B]


# Golden values are float32 with nine digits: 1e-6 is a few of their last units.
@pytest.mark.parametrize(
    ("reduction", "total", "gradient"),
    [
        ("element_mean", "total_upstream", "grad_student_upstream"),
        ("batch_mean", "total_batchmean", "grad_student_batchmean"),
    ],
)
def test_distillation_and_its_gradient_equal_the_published_ones(reduction, total, gradient):
    golden = student_golden.load("kd")
    recipe = distilling(
        temperature=golden["temperature"],
        hard_label_weight=golden["kd_lambda"],
        reduction=reduction,
    )
    inputs = torch.tensor(golden["student_logits"])[:, None, None].requires_grad_()
    teacher_NK = TEACHER_NK.clone()
    teacher_NK[:4] = torch.tensor(golden["teacher_logits_3x4x10"]).mean(0)
    batch = Batch(inputs, torch.tensor(golden["labels"]), np.arange(4), 0.0)
    loss = objective_of(recipe, teacher_NK).compute_loss(batch)
    loss.backward()
    assert loss.item() == pytest.approx(golden[total], rel=1e-6)
    expected = torch.tensor(golden[gradient])
    torch.testing.assert_close(inputs.grad[:, 0, 0], expected, rtol=0, atol=1e-7)


def test_the_total_with_the_discriminator_equals_the_published_one():
    golden = student_golden.load("kd")

    class Discriminator(nn.Module):
        def forward(self, features_BD):
            return torch.tensor(golden["discriminator_logits"])

    recipe = replace(distilling(reduction="element_mean"), device_loss_weight=golden["disc_lambda"])
    teacher_NK = TEACHER_NK.clone()
    teacher_NK[:4] = torch.tensor(golden["teacher_logits_3x4x10"]).mean(0)
    objective = objective_of(recipe, teacher_NK)
    objective.register_module("discriminator", Discriminator())
    objective.device_N[:4] = torch.tensor(golden["devices"])
    inputs = torch.tensor(golden["student_logits"])[:, None, None]
    batch = Batch(inputs, torch.tensor(golden["labels"]), np.arange(4), 0.0)
    assert objective.compute_loss(batch).item() == pytest.approx(
        golden["total_upstream_plus_disc"], rel=1e-6
    )


def test_without_teachers_and_discriminator_the_loss_is_cross_entropy():
    loss = objective_of(drop_teachers(RECIPE_OF_ECHO)).compute_loss(BATCH)
    expected = functional.cross_entropy(LOGITS_BK, BATCH.labels_B)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_hard_label_weight_goes_from_soft_labels_to_true_labels():
    soft = soft_label_loss(LOGITS_BK, soften(TEACHER_BK, 2.0), 2.0).mean().item()
    hard = functional.cross_entropy(LOGITS_BK, BATCH.labels_B).item()
    for weight in (0.0, 0.25, 0.9):
        loss = objective_of(distilling(hard_label_weight=weight)).compute_loss(BATCH).item()
        assert loss == pytest.approx(weight * hard + (1 - weight) * soft, rel=1e-5)


def test_the_soft_part_is_the_one_that_the_recipe_names():
    soft_BK = soften(TEACHER_BK, 3.0)
    expected = {
        Dist(within_class_weight=2.0): dist_loss(
            LOGITS_BK, soft_BK, 3.0, Dist(within_class_weight=2.0)
        ),
        Decoupled(): decoupled_loss(LOGITS_BK, TEACHER_BK, BATCH.labels_B, 3.0, Decoupled()).mean(),
        "divergence": soft_label_loss(LOGITS_BK, soft_BK, 3.0).mean(),
    }
    for loss, value in expected.items():
        recipe = distilling(loss=loss, temperature=3.0, hard_label_weight=0.0)
        assert objective_of(recipe).compute_loss(BATCH).item() == pytest.approx(
            value.item(), rel=1e-5
        )


def test_decoupled_distillation_learns_what_a_sure_teacher_thinks_of_the_other_classes():
    sure_NK = TEACHER_NK + 500 * functional.one_hot(LABELS_N, K)
    recipe = distilling(loss=Decoupled(), hard_label_weight=0.0)
    loss = objective_of(recipe, sure_NK).compute_loss(BATCH).item()
    expected_B = decoupled_loss(
        LOGITS_BK.double(), sure_NK[BATCH.rows_B].double(), BATCH.labels_B, 2.0, Decoupled()
    )
    assert loss == pytest.approx(expected_B.mean().item(), rel=1e-5)
    of_a_guess = objective_of(recipe, sure_NK - TEACHER_NK).compute_loss(BATCH).item()
    assert loss != pytest.approx(of_a_guess, rel=0.1)


def test_decoupled_distillation_from_standardised_logits_standardises_both_sides():
    recipe = distilling(loss=Decoupled(), standardized=True, hard_label_weight=0.0)
    sides_BK = standardize(LOGITS_BK), standardize(TEACHER_BK)
    expected_B = decoupled_loss(*sides_BK, BATCH.labels_B, 2.0, Decoupled())
    assert objective_of(recipe).compute_loss(BATCH).item() == pytest.approx(
        expected_B.mean().item(), rel=1e-5
    )


def test_standardised_logits_make_size_and_offset_of_both_sides_meaningless():
    recipe = distilling(standardized=True, hard_label_weight=0.0)
    loss = objective_of(recipe).compute_loss(BATCH).item()
    larger = objective_of(recipe, 5 * TEACHER_NK + 3)
    assert larger.compute_loss(replace(BATCH, inputs_BCFT=0.1 * BATCH.inputs_BCFT - 8)).item() == (
        pytest.approx(loss, rel=1e-4)
    )
    assert objective_of(distilling(hard_label_weight=0.0)).compute_loss(BATCH).item() != (
        pytest.approx(loss, rel=1e-2)
    )


def test_standardised_distillation_equals_a_slow_computation():
    loss = objective_of(distilling(standardized=True, hard_label_weight=0.25)).compute_loss(BATCH)
    expected = 0.0
    for logits_K, teacher_K, label in zip(LOGITS_BK, TEACHER_BK, BATCH.labels_B, strict=True):
        p_K, q_K = (
            ((each_K - each_K.mean()) / each_K.std(correction=0) / 2).softmax(0)
            for each_K in (teacher_K, logits_K)
        )
        # True labels are told to the logits as they are.
        hard = -logits_K.log_softmax(0)[label]
        expected += 0.25 * hard + 0.75 * 4 * (p_K * (p_K / q_K).log()).sum()
    assert loss.item() == pytest.approx(expected.item() / len(BATCH.rows_B), rel=1e-5)


def test_confident_soft_labels_count_more_and_1_on_average():
    recipe = distilling(confident=True, hard_label_weight=0.0)
    weights_N = confidence(TEACHER_NK) / confidence(TEACHER_NK).mean()
    losses_B = soft_label_loss(LOGITS_BK, soften(TEACHER_BK, 2.0), 2.0)
    expected = (weights_N[BATCH.rows_B] * losses_B).mean().item()
    assert objective_of(recipe).compute_loss(BATCH).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("confident", [False, True])
def test_mixup_mixes_inputs_labels_soft_labels_weights_and_recording_devices(confident):
    recipe = replace(
        distilling(confident=confident, hard_label_weight=0.3),
        mixup=Mixup(alpha=1.0, one_share_per="clip"),
        device_loss_weight=0.5,
    )
    objective = objective_of(recipe)
    objective.register_module("discriminator", nn.Linear(K, 2))
    torch.manual_seed(11)
    loss = objective.compute_loss(BATCH)
    torch.manual_seed(11)
    mix = draw_mix(recipe.mixup, len(BATCH.rows_B), torch.device("cpu"))
    weights_N = confidence(TEACHER_NK) / confidence(TEACHER_NK).mean()
    expected = 0.0
    for at, (partner, keep) in enumerate(
        zip(mix.partner_B.tolist(), mix.keep_B.tolist(), strict=True)
    ):
        pairs = ((at, keep), (partner, 1 - keep))
        logits_K = sum(share * LOGITS_BK[b] for b, share in pairs)
        hard = sum(-share * logits_K.log_softmax(0)[BATCH.labels_B[b]] for b, share in pairs)
        soft_K = sum(share * (TEACHER_BK[b] / 2).softmax(0) for b, share in pairs)
        soft = 4 * (soft_K * (soft_K.log() - (logits_K / 2).log_softmax(0))).sum()
        weight = sum(share * weights_N[BATCH.rows_B[b]] for b, share in pairs)
        devices = objective.discriminator(logits_K).log_softmax(0)
        device = sum(-share * devices[int(BATCH.rows_B[b] >= N // 2)] for b, share in pairs)
        expected += 0.3 * hard + 0.7 * soft * (weight if confident else 1) + 0.5 * device
    assert loss.item() == pytest.approx(expected.item() / len(BATCH.rows_B), rel=1e-5)


def test_the_loss_of_a_challenged_student_uses_its_unmuted_features():
    recipe = replace(drop_teachers(RECIPE_OF_ECHO), challenge=Challenge(drop_features=0.33))
    seen_BK = challenge_features(LOGITS_BK, nn.Identity(), BATCH.labels_B, recipe.challenge)
    assert (seen_BK == 0).any()
    expected = functional.cross_entropy(seen_BK, BATCH.labels_B)
    assert objective_of(recipe).compute_loss(BATCH).item() == pytest.approx(
        expected.item(), rel=1e-6
    )


def test_soft_labels_use_unmuted_features_and_the_discriminator_uses_all():
    recipe = replace(distilling(), challenge=Challenge(drop_features=0.33), device_loss_weight=0.5)
    objective = objective_of(recipe)
    objective.register_module("discriminator", nn.Linear(K, 2))
    seen_BK = challenge_features(LOGITS_BK, nn.Identity(), BATCH.labels_B, recipe.challenge)
    hard = functional.cross_entropy(seen_BK, BATCH.labels_B)
    soft = soft_label_loss(seen_BK, soften(TEACHER_BK, 2.0), 2.0).mean()
    devices_B = torch.from_numpy((BATCH.rows_B >= N // 2).astype(np.int64))
    device = functional.cross_entropy(objective.discriminator(LOGITS_BK), devices_B)
    expected = 0.02 * hard + 0.98 * soft + 0.5 * device
    assert objective.compute_loss(BATCH).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("seed", "in_conflict"), [(0, False), (5, True)])
def test_two_tasks_give_the_gradients_of_two_separate_passes_merged(seed, in_conflict):
    recipe = replace(RECIPE_OF_ECHO, model=MODEL_OF_TWO_TASKS, two_tasks=True, distillation=None)
    torch.manual_seed(seed)
    student = build(recipe.model, n_classes=K)
    student.dropout.p = 0.0
    batch = batch_of([0, 3, 5, 7], inputs=normal(1, 4, 2, 32, 32))
    objective_of(recipe, student=student).compute_loss(batch).backward()
    found = torch.cat([p.grad.flatten() for p in student.parameters()])
    gradients = []
    for task in range(2):
        student.zero_grad()
        outputs = student.heads(student.features(batch.inputs_BCFT))[task]
        groups = [("indoor", "outdoor", "transport").index(GROUP_OF_SCENE[s]) for s in SCENES]
        targets_B = (batch.labels_B, torch.tensor(groups)[batch.labels_B])[task]
        functional.cross_entropy(outputs, targets_B).backward()
        gradients.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                    for p in student.parameters()
                ]
            )
        )
    first, second = gradients
    assert (first @ second < 0) == in_conflict
    conflict = min(0.0, (first @ second).item())
    expected = (
        first
        - conflict / second.square().sum() * second
        + second
        - conflict / first.square().sum() * first
    ) / 2
    # Float32, sums over 60,000 parameters in another order.
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_two_tasks_of_mixed_clips_learn_mixed_scenes_soft_labels_and_groups():
    recipe = replace(
        distilling(hard_label_weight=0.3),
        model=MODEL_OF_TWO_TASKS,
        two_tasks=True,
        mixup=Mixup(alpha=1.0),
    )
    torch.manual_seed(2)
    student = build(recipe.model, n_classes=K).eval()
    batch = batch_of([0, 3, 5, 7], inputs=normal(1, 4, 2, 32, 32))
    torch.manual_seed(11)
    loss = objective_of(recipe, student=student).compute_loss(batch)
    torch.manual_seed(11)
    mix = draw_mix(recipe.mixup, 4, torch.device("cpu"))
    group_of = [("indoor", "outdoor", "transport").index(GROUP_OF_SCENE[s]) for s in SCENES]
    scenes = groups = 0.0
    for at, (partner, keep) in enumerate(
        zip(mix.partner_B.tolist(), mix.keep_B.tolist(), strict=True)
    ):
        pairs = ((at, keep), (partner, 1 - keep))
        mixed = sum(share * batch.inputs_BCFT[b] for b, share in pairs)
        scenes_K, groups_G = (out[0] for out in student.heads(student.features(mixed[None])))
        for b, share in pairs:
            label = int(batch.labels_B[b])
            groups -= share * groups_G.log_softmax(0)[group_of[label]]
            scenes -= 0.3 * share * scenes_K.log_softmax(0)[label]
        soft_K = sum(share * (TEACHER_NK[batch.rows_B[b]] / 2).softmax(0) for b, share in pairs)
        scenes += 0.7 * 4 * (soft_K * (soft_K.log() - (scenes_K / 2).log_softmax(0))).sum()
    # Both tasks count alike, and a loss is the mean over the clips.
    assert loss.item() == pytest.approx((scenes + groups).item() / 2 / 4, rel=1e-5)


def test_each_view_of_a_clip_has_its_own_soft_labels():
    logits_VNK = torch.stack([TEACHER_NK, normal(6, N, K)])
    objective = objective_of(distilling(n_views=2, hard_label_weight=0.0), logits_VNK)
    for view in (0, 1):
        soft_BK = soften(logits_VNK[view][BATCH.rows_B], 2.0)
        expected = soft_label_loss(LOGITS_BK, soft_BK, 2.0).mean().item()
        loss = objective.compute_loss(replace(BATCH, view=view)).item()
        assert loss == pytest.approx(expected, rel=1e-5)


def test_without_stored_views_every_view_has_the_soft_labels_of_the_untouched_clip():
    objective = objective_of()
    losses = {
        objective.compute_loss(replace(BATCH, view=view)).item() for view in (0, 1, 3_000_001)
    }
    assert len(losses) == 1


def test_soft_labels_are_not_in_a_checkpoint():
    recipe = replace(distilling(confident=True), device_loss_weight=0.1)
    kept = objective_of(recipe).state_dict()
    assert kept
    assert {name.partition(".")[0] for name in kept} == {"discriminator"}


@pytest.mark.parametrize(
    ("logits", "n_views", "message"),
    [
        (TEACHER_NK[:, :9], None, r"oracle have shape \(12, 9\).*expected \(1, 12, 10\).*airport"),
        (TEACHER_NK[:11], None, r"shape \(11, 10\).*has 12 clips"),
        (TEACHER_NK, 3, r"shape \(12, 10\).*expected \(3, 12, 10\).*3 view"),
        (torch.stack([TEACHER_NK] * 2), 3, r"shape \(2, 12, 10\).*expected \(3, 12, 10\)"),
        (torch.stack([TEACHER_NK] * 2), None, r"shape \(2, 12, 10\).*expected \(1, 12, 10\)"),
        (TEACHER_NK.where(LABELS_N[:, None] != 7, torch.nan), None, "view 0 of row 7 is .*nan"),
    ],
)
def test_soft_labels_of_other_classes_clips_or_views_are_refused(logits, n_views, message):
    with pytest.raises(UnfitSoftLabels, match=message):
        objective_of(distilling(n_views=n_views), logits)


def test_confidence_of_teachers_that_only_guess_is_refused():
    with pytest.raises(UnfitSoftLabels, match="oracle are the same for every class of every clip"):
        objective_of(distilling(confident=True), torch.zeros(N, K))


def test_every_way_of_learning_has_a_fingerprint_of_its_own():
    ways = [
        RECIPE_OF_ECHO,
        drop_teachers(RECIPE_OF_ECHO),
        *(distilling(loss=loss) for loss in (Dist(), Decoupled(), Dist(within_class_weight=2.0))),
        distilling(standardized=True),
        distilling(confident=True),
        distilling(n_views=1),
        replace(RECIPE_OF_ECHO, mixup=Mixup()),
        replace(RECIPE_OF_ECHO, challenge=Challenge()),
    ]
    assert len({fingerprint(way) for way in ways}) == len(ways)
