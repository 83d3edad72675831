import pytest
import student_golden
import torch
from torch.nn import functional

from students.losses import distillation_loss, soft_label_loss


@pytest.fixture
def golden():
    return student_golden.load("kd")


@pytest.fixture
def logits_BK():
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.fixture
def other_BK():
    return torch.randn(6, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def golden_inputs(golden):
    student_BK = torch.tensor(golden["student_logits"], dtype=torch.float64, requires_grad=True)
    teacher_BK = torch.tensor(golden["teacher_logits_3x4x10"], dtype=torch.float64).mean(0)
    return student_BK, teacher_BK, torch.tensor(golden["labels"])


# Golden values are float32 with nine digits: 1e-6 is a few of their last units.
@pytest.mark.parametrize(
    ("reduction", "soft", "total", "gradient"),
    [
        (
            "element_mean",
            "kd_loss_upstream_elementmean_T2",
            "total_upstream",
            "grad_student_upstream",
        ),
        ("batch_mean", "kd_loss_batchmean_T2", "total_batchmean", "grad_student_batchmean"),
    ],
)
def test_losses_and_gradients_equal_the_published_ones(golden, reduction, soft, total, gradient):
    student_BK, teacher_BK, labels_B = golden_inputs(golden)
    soft_loss = soft_label_loss(student_BK, teacher_BK, golden["temperature"], reduction)
    loss = distillation_loss(
        student_BK,
        teacher_BK,
        labels_B,
        temperature=golden["temperature"],
        hard_label_weight=golden["kd_lambda"],
        reduction=reduction,
    )
    loss.backward()
    assert soft_loss.item() == pytest.approx(golden[soft], rel=1e-6)
    assert loss.item() == pytest.approx(golden[total], rel=1e-6)
    expected = torch.tensor(golden[gradient], dtype=torch.float64)
    torch.testing.assert_close(student_BK.grad, expected, rtol=0, atol=1e-7)


def test_total_with_the_discriminator_equals_the_published_one(golden):
    student_BK, teacher_BK, labels_B = golden_inputs(golden)
    distillation = distillation_loss(
        student_BK,
        teacher_BK,
        labels_B,
        temperature=golden["temperature"],
        hard_label_weight=golden["kd_lambda"],
        reduction="element_mean",
    )
    device = functional.cross_entropy(
        torch.tensor(golden["discriminator_logits"]), torch.tensor(golden["devices"])
    )
    total = distillation + golden["disc_lambda"] * device
    assert total.item() == pytest.approx(golden["total_upstream_plus_disc"], rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_label_loss_is_zero_for_a_student_that_agrees(logits_BK, temperature):
    assert soft_label_loss(logits_BK, logits_BK, temperature).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_label_loss_is_the_frameworks_divergence(logits_BK, other_BK, temperature):
    expected = temperature**2 * functional.kl_div(
        (logits_BK / temperature).log_softmax(-1),
        (other_BK / temperature).softmax(-1),
        reduction="batchmean",
    )
    loss = soft_label_loss(logits_BK, other_BK, temperature)
    # Float64, two orders of the same sums.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


def test_a_constant_added_to_all_logits_of_a_clip_changes_nothing(logits_BK, other_BK):
    loss = soft_label_loss(logits_BK, other_BK, 2.0)
    moved = soft_label_loss(logits_BK + 5.0, other_BK - 3.0, 2.0)
    assert moved.item() == pytest.approx(loss.item(), rel=1e-12)


def test_element_mean_is_batch_mean_divided_by_the_number_of_classes(logits_BK, other_BK):
    per_clip = soft_label_loss(logits_BK, other_BK, 2.0, "batch_mean")
    per_element = soft_label_loss(logits_BK, other_BK, 2.0, "element_mean")
    assert per_clip.item() == pytest.approx(10 * per_element.item(), rel=1e-12)


def test_hard_label_weight_goes_from_soft_labels_to_true_labels(logits_BK, other_BK):
    labels_B = torch.arange(6)

    def loss(weight):
        return distillation_loss(
            logits_BK, other_BK, labels_B, temperature=2.0, hard_label_weight=weight
        ).item()

    assert loss(0.0) == soft_label_loss(logits_BK, other_BK, 2.0).item()
    assert loss(1.0) == functional.cross_entropy(logits_BK, labels_B).item()
    assert loss(0.25) == pytest.approx(0.75 * loss(0.0) + 0.25 * loss(1.0), rel=1e-12)


def test_no_gradient_reaches_the_teacher(logits_BK, other_BK):
    student_BK = logits_BK.requires_grad_()
    teacher_BK = other_BK.requires_grad_()
    soft_label_loss(student_BK, teacher_BK, 2.0).backward()
    assert student_BK.grad is not None
    assert teacher_BK.grad is None


def test_logits_of_a_thousand_make_a_finite_loss():
    student_BK = torch.tensor([[1000.0, -1000.0]])
    loss = soft_label_loss(student_BK, -student_BK, 1.0)
    # All the teacher's probability lies where the student's log probability is -2000.
    assert loss.item() == pytest.approx(2000)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_zero_is_refused(logits_BK, temperature):
    with pytest.raises(ValueError, match="temperature="):
        soft_label_loss(logits_BK, logits_BK, temperature)


def test_teacher_logits_of_another_shape_are_refused(logits_BK):
    with pytest.raises(ValueError, match=r"\(6, 10\).*\(1, 10\)"):
        soft_label_loss(logits_BK, logits_BK[:1], 2.0)


def test_an_unknown_reduction_is_refused(logits_BK):
    with pytest.raises(ValueError, match="reduction='mean'"):
        soft_label_loss(logits_BK, logits_BK, 2.0, "mean")


def test_a_share_of_more_than_one_is_refused(logits_BK):
    with pytest.raises(ValueError, match=r"hard_label_weight=1\.5"):
        distillation_loss(
            logits_BK, logits_BK, torch.arange(6), temperature=1.0, hard_label_weight=1.5
        )
