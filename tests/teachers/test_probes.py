import pytest
import torch
from tiny_backbone import N_DIMS, ONNX_INPUT, write_backbone

from logit_store import LogitStore
from teachers.backbones import find_backbone, name_backbone
from teachers.backbones.dry_step import measure_embedding_step
from teachers.probes import PROBE_NAMES, find_wanted_teachers, make_embedding_key, make_probe_recipe


def test_names_stand_for_fine_tuned_teachers_and_probes():
    found = find_wanted_teachers(["demo_mn", "probe:aisfx", "probe:aisfx+mn10_as", "demo_mn"])
    assert [recipe.name for recipe in found.recipes] == ["demo_mn"]
    assert found.probes == [("aisfx",), ("aisfx", "mn10_as")]


def test_probes_is_a_set_whose_backbones_have_published_weights():
    found = find_wanted_teachers(["probes", "probe:aisfx"])
    assert len(found.probes) == len(PROBE_NAMES)
    for name in {name for names in found.probes for name in names}:
        assert find_backbone(name).name == name


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("probe:", "lacks a name"),
        ("probe:aisfx+", "lacks a name"),
        ("probe:aisfx+aisfx", "has aisfx twice"),
    ],
)
def test_a_probe_without_a_backbone_is_refused(name, fault):
    with pytest.raises(ValueError, match=f"no probe {name.replace('+', '.')}: it {fault}"):
        find_wanted_teachers([name])


def test_a_recipe_names_labels_and_not_the_place_of_a_file(tmp_path):
    backbone = find_backbone(write_backbone(tmp_path / "net.onnx"), onnx=ONNX_INPUT)
    recipe = make_probe_recipe([backbone], n_views=2)
    assert str(tmp_path) not in str(recipe.backbones) or backbone.label in recipe.backbones
    assert recipe.name == f"probe_{backbone.label}"


def test_only_changed_views_depend_on_the_impulse_responses(tmp_path):
    backbone = find_backbone(write_backbone(tmp_path / "net.onnx"), onnx=ONNX_INPUT)
    (tmp_path / "responses").mkdir()
    (tmp_path / "responses" / "one.wav").write_bytes(b"")

    def name(view, responses=None):
        return make_embedding_key(backbone, "tau", view, responses).backbone

    assert name(0) == name(0, tmp_path / "responses") == name(1) == name_backbone(backbone)
    assert name(1, tmp_path / "responses") != name(1)


def test_a_timed_backbone_says_how_long_its_embedding_is(tmp_path):
    backbone = find_backbone(write_backbone(tmp_path / "net.onnx"), onnx=ONNX_INPUT)
    step = measure_embedding_step(backbone, 1.0, torch.device("cpu"), LogitStore(tmp_path))
    assert step.n_dims == N_DIMS
    assert step.clip_s > 0
