import pytest
import student_golden
import torch
from student_golden import assert_equals_golden, fill_by_key

from students.catalogue import build
from students.complexity import measure_complexity
from students.dsmn import DSMN


@pytest.mark.parametrize("rule", ["key", "pos"])
@pytest.mark.parametrize("name", ["dsmn_model1", "dsmn_model2", "dsmn_model4"])
def test_both_heads_equal_those_of_the_published_model_under_its_own_names(name, rule):
    golden = student_golden.load(f"models/{name}")
    model = build(name, n_classes=10)
    fill_by_key(model, golden, rule)

    def both(x):
        return torch.cat(model.heads(model.features(x)), dim=1)

    assert_equals_golden(model, golden, rule, both)


def test_forward_gives_the_scenes_only():
    model = DSMN(10).eval()
    x = torch.randn(2, 2, 64, 44)
    scenes_BK, groups_BG = model.heads(model.features(x))
    assert scenes_BK.shape == (2, 10)
    assert groups_BG.shape == (2, 3)
    assert torch.equal(model(x), scenes_BK)


# Published counts, without the sixth block; those of the readme's models 2 and 3 are swapped.
@pytest.mark.parametrize(
    ("name", "used"),
    [
        ("dsmn_model1", 45_164),
        ("dsmn_model2", 56_556),
        ("dsmn_model3", 56_172),
        ("dsmn_model4", 140_748),
    ],
)
def test_leaving_the_unused_block_out_changes_nothing(name, used):
    published = build(name, n_classes=10).eval()
    lean = build(name, n_classes=10, sixth_block=False).eval()
    lean.load_state_dict(
        {key: value for key, value in published.state_dict().items() if key[:6] != "conv6."}
    )
    x = torch.randn(1, 2, 64, 44)
    assert torch.equal(lean(x), published(x))
    shape = (1, 2, 256, 44)
    assert measure_complexity(lean, shape).params == used
    assert measure_complexity(lean, shape).macs == measure_complexity(published, shape).macs


def test_a_split_block_has_one_layer_for_the_high_half_and_a_plain_one_treats_both_alike():
    split, plain = (DSMN(3, blocks=(kind,) * 5).eval() for kind in ("split", "plain"))
    assert split.conv1.conv3.in_channels == 8
    assert plain.conv1.conv3.in_channels == 24
    x = torch.randn(1, 2, 64, 44)
    assert split.conv1(split.conv(x.transpose(2, 3))).shape == (1, 24, 22, 32)
    assert plain.conv1(plain.conv(x.transpose(2, 3))).shape == (1, 24, 22, 32)
