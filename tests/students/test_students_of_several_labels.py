"""What students minimise where a clip has several labels, or none (B clips, K classes)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from echo import RECIPE_OF_ECHO, TEACHER_NK, Corpus, Echo, Feed, K, N, normal
from report_store import make_several
from tiny import tiny_corpus
from tiny_student import CPU, TINY_STUDENT, open_store
from torch.nn import functional

from metrics import mean_average_precision
from students import Challenge, Decoupled, Dist, Distillation, Mixup, TeacherLogits, drop_teachers
from students.distill import distill
from students.errors import UnfitLabels
from students.mixup import draw_mix
from students.objective import DistillationObjective
from students.several import soft_loss
from training import Batch, PoolUse
from training.label_loss import label_loss

TARGETS_NK = (normal(1, N, K) > 0).to(torch.int8)
ROWS = np.array([3, 1, 4, 8, 11])
LOGITS_BK = normal(7, len(ROWS), K)


class SeveralCorpus(Corpus):
    has_several_labels = True


class SeveralFeed(Feed):
    corpus = SeveralCorpus()


def compute(recipe, targets_NK=TARGETS_NK, pool=None):
    soft = TeacherLogits("oracle", TEACHER_NK.numpy()) if recipe.distillation else None
    objective = DistillationObjective(recipe, Echo(), SeveralFeed(), 100, soft, pool)
    torch.manual_seed(3)
    inputs = LOGITS_BK[:, None, None]
    return objective.compute_loss(Batch(inputs, targets_NK[ROWS], ROWS, 0.25))


def binary_divergence(temperature):
    """T^2 times the mean over classes of KL(p || q), in float64 and in the plainest way."""
    p = torch.sigmoid(TEACHER_NK[ROWS].double() / temperature)
    q = torch.sigmoid(LOGITS_BK.double() / temperature)
    return temperature**2 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean(dim=1)


HARD = functional.binary_cross_entropy_with_logits(LOGITS_BK, TARGETS_NK[ROWS].float())


def test_labels_alone_give_the_mean_of_binary_cross_entropies():
    assert compute(drop_teachers(RECIPE_OF_ECHO)).item() == pytest.approx(HARD.item())
    assert label_loss(LOGITS_BK, TARGETS_NK[ROWS]).item() == pytest.approx(HARD.item())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_labels_are_probabilities_of_each_class_by_itself(temperature):
    way = Distillation(temperature=temperature, hard_label_weight=0.1)
    expected = 0.1 * HARD + 0.9 * binary_divergence(temperature).mean()
    found = compute(replace(RECIPE_OF_ECHO, distillation=way))
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_student_that_agrees_has_no_loss_also_with_a_sure_teacher():
    logits_BK = torch.tensor([[200.0, -200.0, 0.0]])
    loss_B = soft_loss(logits_BK, torch.sigmoid(logits_BK / 2), 2.0)
    assert loss_B.tolist() == pytest.approx([0.0], abs=1e-6)


def test_clips_without_labels_leave_the_weight_of_theirs_to_soft_labels():
    targets_NK = TARGETS_NK.clone()
    targets_NK[[1, 11]] = -1
    way = Distillation(hard_label_weight=0.5)
    found = compute(replace(RECIPE_OF_ECHO, distillation=way), targets_NK, PoolUse())
    known = torch.tensor([True, False, True, True, False])
    losses_BK = functional.binary_cross_entropy_with_logits(
        LOGITS_BK, TARGETS_NK[ROWS].float(), reduction="none"
    )
    hard = losses_BK[known].sum() / losses_BK.numel()
    expected = 0.5 * hard + (1 - 0.5 * 3 / 5) * binary_divergence(2.0).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_mixed_clips_have_mixed_labels():
    recipe = replace(drop_teachers(RECIPE_OF_ECHO), mixup=Mixup(alpha=0.4))
    found = compute(recipe)
    torch.manual_seed(3)
    mix = draw_mix(Mixup(alpha=0.4), len(ROWS), torch.device("cpu"))
    expected = functional.binary_cross_entropy_with_logits(
        mix(LOGITS_BK), mix(TARGETS_NK[ROWS].float())
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_recording_devices_are_told_apart_whatever_the_labels_are():
    assert compute(replace(RECIPE_OF_ECHO, device_loss_weight=0.5)).isfinite()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"distillation": Distillation(loss=Decoupled())}, "compares classes"),
        ({"distillation": Distillation(loss=Dist())}, "compares classes"),
        ({"distillation": Distillation(standardized=True)}, "standardised logits"),
        ({"distillation": Distillation(confident=True)}, "a choice among classes"),
        ({"distillation": Distillation(reduction="element_mean")}, "element_mean is for sums"),
        ({"challenge": Challenge()}, "needs the true class"),
        ({"model": "dsmn_model2", "two_tasks": True}, "the group of the true class"),
    ],
)
def test_ways_that_need_one_true_class_are_refused(changes, reason):
    with pytest.raises(UnfitLabels, match=f"{reason}.*have several labels or none; leave it out"):
        compute(replace(RECIPE_OF_ECHO, **changes))


def test_a_student_of_several_labels_is_judged_by_its_map_and_stored(tmp_path):
    corpus = make_several(tiny_corpus(tmp_path / "corpus"))
    soft = TeacherLogits("oracle", (8.0 * corpus.truth() - 4).astype(np.float32))
    scores = []
    with open_store(tmp_path, corpus) as store:
        key = distill(
            TINY_STUDENT,
            corpus,
            100,
            0,
            store,
            soft,
            responses=None,
            device=CPU,
            on_epoch=lambda metrics: scores.append((metrics.score, metrics.accuracy)),
        )
        found = store.read_footer(key).find_scores("select")
        logits_NK = store.read([key])[0]
    rows = corpus.rows(100, "select")
    assert {name for name, _ in scores} == {"mAP"}
    assert found.accuracy == mean_average_precision(logits_NK[rows], corpus.truth()[rows])
    # Every class as likely as not would be worse.
    assert found.log_loss < np.log(2)
