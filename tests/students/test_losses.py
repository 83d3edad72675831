import numpy as np
import pytest
import student_golden
import torch
from torch.nn import functional

from students.losses import (
    confidence,
    decoupled_loss,
    dist_loss,
    soft_label_loss,
    soften,
    standardize,
)
from students.recipe import Decoupled, Dist


@pytest.fixture
def logits_BK():
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def other_BK():
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def slow_softmax(logits):
    powers = [np.exp(logit) for logit in logits]
    return np.array([power / sum(powers) for power in powers])


def slow_divergence(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def slow_correlation(a, b):
    return np.corrcoef(a, b)[0, 1]


def test_soft_labels_of_the_published_ensemble_are_the_published_ones():
    golden = student_golden.load("kd")
    teacher_BK = torch.tensor(golden["teacher_logits_3x4x10"], dtype=torch.float64).mean(0)
    expected = torch.tensor(golden["teacher_log_softmax_T"], dtype=torch.float64)
    # Golden values are float32 with nine digits.
    torch.testing.assert_close(
        soften(teacher_BK, golden["temperature"]).log(), expected, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_label_loss_is_zero_for_a_student_that_agrees(logits_BK, temperature):
    loss_B = soft_label_loss(logits_BK, soften(logits_BK, temperature), temperature)
    assert loss_B.abs().max().item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_label_loss_is_the_frameworks_divergence(logits_BK, other_BK, temperature):
    expected = temperature**2 * functional.kl_div(
        (logits_BK / temperature).log_softmax(-1),
        (other_BK / temperature).softmax(-1),
        reduction="batchmean",
    )
    loss_B = soft_label_loss(logits_BK, soften(other_BK, temperature), temperature)
    # Float64, two orders of the same sums.
    assert loss_B.mean().item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_constant_added_to_all_logits_of_a_clip_changes_nothing(logits_BK, other_BK):
    loss_B = soft_label_loss(logits_BK, soften(other_BK, 2.0), 2.0)
    moved_B = soft_label_loss(logits_BK + 5.0, soften(other_BK - 3.0, 2.0), 2.0)
    torch.testing.assert_close(moved_B, loss_B, rtol=1e-12, atol=0)


def test_logits_of_a_thousand_make_a_finite_loss():
    student_BK = torch.tensor([[1000.0, -1000.0]])
    loss_B = soft_label_loss(student_BK, soften(-student_BK, 1.0), 1.0)
    # All the teacher's probability lies where the student's log probability is -2000.
    assert loss_B.item() == pytest.approx(2000)


def test_standardised_logits_have_mean_0_and_spread_1(logits_BK):
    standard_BK = standardize(30 * logits_BK - 7).numpy()
    np.testing.assert_allclose(standard_BK.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(standard_BK.std(axis=1), 1, rtol=1e-12)


def test_standardised_soft_labels_equal_a_slow_computation(logits_BK):
    soft_BK = soften(standardize(logits_BK), 2.0).numpy()
    for row, soft in zip(logits_BK.numpy(), soft_BK, strict=True):
        expected = slow_softmax((row - row.mean()) / row.std() / 2.0)
        np.testing.assert_allclose(soft, expected, rtol=1e-9)


def test_equal_logits_can_be_standardised_and_learnt_from():
    logits_BK = torch.zeros(1, 4, requires_grad=True)
    standardize(logits_BK).sum().backward()
    assert torch.isfinite(logits_BK.grad).all()


def test_decoupled_loss_equals_a_slow_computation(logits_BK, other_BK):
    labels_B = torch.tensor([0, 9, 4, 4, 1, 7])
    weights = Decoupled(true_class_weight=0.7, other_classes_weight=3.0)
    loss_B = decoupled_loss(logits_BK, other_BK, labels_B, 4.0, weights)
    rows = zip(logits_BK.numpy(), other_BK.numpy(), labels_B.tolist(), loss_B, strict=True)
    for student, teacher, label, loss in rows:
        p, q = slow_softmax(teacher / 4.0), slow_softmax(student / 4.0)
        true_class = slow_divergence([p[label], 1 - p[label]], [q[label], 1 - q[label]])
        others = slow_divergence(
            slow_softmax(np.delete(teacher, label) / 4.0),
            slow_softmax(np.delete(student, label) / 4.0),
        )
        assert loss.item() == pytest.approx(16 * (0.7 * true_class + 3.0 * others), rel=1e-9)


def test_decoupled_parts_with_the_weights_of_the_divergence_are_the_divergence(logits_BK, other_BK):
    # Zhao et al. 2022, eq. 6: KL = TCKD + (1 - p of the true class) NCKD.
    labels_B = torch.tensor([3])
    soft_BK = soften(other_BK[:1], 2.0)
    weights = Decoupled(true_class_weight=1.0, other_classes_weight=1 - soft_BK[0, 3].item())
    loss = decoupled_loss(logits_BK[:1], other_BK[:1], labels_B, 2.0, weights).item()
    assert loss == pytest.approx(soft_label_loss(logits_BK[:1], soft_BK, 2.0).item(), rel=1e-9)


def exact_parts(student, teacher, label):
    """Both parts of decoupled distillation, from logarithms in float64."""
    p, q = (row - logaddexp(row) for row in (teacher, student))
    others = np.arange(len(p)) != label
    pairs = [np.array([row[label], logaddexp(row[others])]) for row in (p, q)]
    shares = [row[others] - logaddexp(row[others]) for row in (p, q)]
    return [np.sum(np.exp(a) * (a - b)) for a, b in (pairs, shares)]


def logaddexp(row):
    return np.logaddexp.reduce(row)


@pytest.mark.parametrize("in_bfloat16", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("of_student", [0.0, 80.0, 500.0])
@pytest.mark.parametrize("of_teacher", [-500.0, 0.0, 5.0, 80.0, 500.0, 60_000.0])
def test_decoupled_loss_and_its_gradient_are_exact_however_sure_both_are(
    of_teacher, of_student, temperature, in_bfloat16
):
    teacher_BK = torch.tensor([[of_teacher, 0.5, -1.0, 2.0]])
    student_BK = torch.tensor([[of_student, 1.0, 3.0, -12.0]], requires_grad=True)
    weights, labels_B = (
        Decoupled(true_class_weight=1.0, other_classes_weight=8.0),
        torch.tensor([0]),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        loss_B = decoupled_loss(student_BK, teacher_BK, labels_B, temperature, weights)
    loss_B.sum().backward()
    student_K, teacher_K = (
        each_BK[0].detach().double().numpy() / temperature for each_BK in (student_BK, teacher_BK)
    )
    true_class, others = exact_parts(student_K, teacher_K, 0)
    assert loss_B.item() == pytest.approx(temperature**2 * (true_class + 8 * others), rel=2e-5)
    p_J, q_J = slow_softmax(teacher_K[1:]), slow_softmax(student_K[1:])
    p, q = (np.exp(logaddexp(row[1:]) - logaddexp(row)) for row in (teacher_K, student_K))
    expected = temperature * ((q - p) * q_J + 8 * (q_J - p_J))
    np.testing.assert_allclose(student_BK.grad[0, 1:], expected, rtol=1e-4, atol=2e-5)


def test_dist_loss_equals_a_slow_computation(logits_BK, other_BK):
    weights = Dist(between_classes_weight=2.0, within_class_weight=0.5)
    loss = dist_loss(logits_BK, soften(other_BK, 4.0), 4.0, weights).item()
    student = np.array([slow_softmax(row / 4.0) for row in logits_BK.numpy()])
    teacher = np.array([slow_softmax(row / 4.0) for row in other_BK.numpy()])
    between = np.mean([1 - slow_correlation(student[b], teacher[b]) for b in range(6)])
    within = np.mean([1 - slow_correlation(student[:, k], teacher[:, k]) for k in range(10)])
    assert loss == pytest.approx(16 * (2.0 * between + 0.5 * within), rel=1e-9)


def test_confidence_is_1_without_doubt_and_0_for_a_guess_and_falls_with_entropy():
    logits_NK = torch.tensor([[100.0, 0.0, 0.0], [2.0, 2.0, 2.0], [1.0, 0.0, 0.0]])
    sure, guess, between = confidence(logits_NK).tolist()
    assert (sure, guess) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    p = slow_softmax(np.array([1.0, 0.0, 0.0]))
    assert between == pytest.approx(1 + sum(p * np.log(p)) / np.log(3), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(logits_BK, temperature):
    with pytest.raises(ValueError, match="temperature="):
        soften(logits_BK, temperature)


def test_soft_labels_of_another_shape_are_refused(logits_BK):
    with pytest.raises(ValueError, match=r"\(6, 10\).*\(1, 10\)"):
        soft_label_loss(logits_BK, logits_BK[:1], 2.0)
