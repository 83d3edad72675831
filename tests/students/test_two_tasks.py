import pytest
import student_golden
import torch
from torch import nn
from torch.nn import functional

from students.groups import GROUP_OF_SCENE
from students.two_tasks import make_group_matrix, merge_losses

GOLDEN = student_golden.load("dsmn_loss")


@pytest.mark.parametrize("case", GOLDEN["pcgrad"])
def test_merged_gradients_equal_the_published_ones(case):
    first, second = torch.tensor(case["g1"]), torch.tensor(case["g2"])
    # As two tensors, so that what conflicts is the whole and not each parameter by itself.
    parameters = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(len(first) - 2))]

    def loss(gradient):
        return sum(
            (p * g).sum()
            for p, g in zip(parameters, gradient.split([2, len(first) - 2]), strict=True)
        )

    value = merge_losses(loss(first), loss(second), parameters)
    value.backward()
    assert value.item() == pytest.approx((first.sum() + second.sum()).item() / 2, abs=1e-6)
    expected = torch.tensor(case["merged_mean"])
    # Golden values are float32 with nine digits.
    torch.testing.assert_close(torch.cat([p.grad for p in parameters]), expected, rtol=0, atol=1e-6)


def test_both_tasks_losses_with_soft_labels_equal_the_published_ones():
    logits = torch.tensor(GOLDEN["logits"])
    targets_BK = torch.tensor(GOLDEN["targets10"])
    targets_BG = targets_BK @ make_group_matrix(sorted(GROUP_OF_SCENE))
    torch.testing.assert_close(targets_BG, torch.tensor(GOLDEN["targets3"]))
    # Published as sums over the batch; ours are means.
    scenes = 3 * functional.cross_entropy(logits[:, :10], targets_BK)
    groups = 3 * functional.cross_entropy(logits[:, 10:], targets_BG)
    assert scenes.item() == pytest.approx(GOLDEN["loss10_sum"], rel=1e-6)
    assert groups.item() == pytest.approx(GOLDEN["loss3_sum"], rel=1e-6)


def test_scenes_are_in_the_published_groups():
    assert make_group_matrix(sorted(GROUP_OF_SCENE)).argmax(1).tolist() == GOLDEN["class_to_group"]


def test_the_graph_is_kept_for_further_losses():
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    shared = parameter.exp()
    merge_losses(shared[0], shared[1], [parameter])
    shared.sum().backward()
    torch.testing.assert_close(parameter.grad, parameter.detach().exp())


def test_a_loss_without_gradient_conflicts_with_nothing():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    merge_losses(used.sum(), (0 * used).sum(), [used, unused]).backward()
    assert used.grad.tolist() == [0.5, 0.5]
    assert unused.grad.tolist() == [0.0]


def test_a_scene_without_a_group_is_refused():
    with pytest.raises(ValueError, match="scenes beach are in no group"):
        make_group_matrix(["airport", "beach"])
