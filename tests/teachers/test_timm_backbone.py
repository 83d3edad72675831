"""Any timm model is a teacher; the smallest of each kind stands for all."""

import copy
from pathlib import Path

import pytest
import timm
import torch

from teachers import MissingWeights, UnfitWeights, build, fetch_weights, find_architecture
from teachers.catalogue import CATALOGUE

CONVOLUTIONAL = "timm:resnet10t"
TRANSFORMER = "timm:test_vit"
SECOND = (2, 1, 64, 65)


def small(name: str, n_classes: int = 7, weights: str | Path = "none", **arguments):
    torch.manual_seed(0)
    return build(name, n_classes=n_classes, weights=weights, **arguments)


@pytest.mark.parametrize(
    "name",
    [
        CONVOLUTIONAL,
        TRANSFORMER,
        "timm:test_convnext",
        "timm:test_efficientnet",
        "timm:mobilenetv3_small_050",
        "timm:deit_tiny_distilled_patch16_224",
    ],
)
@torch.no_grad()
def test_logits_are_timms_own_and_the_embedding_is_what_the_last_layer_classifies(name):
    model = small(name).eval()
    x = torch.randn(SECOND)
    logits_BK, embedding_BD = model(x)
    # The class is timm's: its own forward still exists, without the embedding.
    torch.testing.assert_close(logits_BK, type(model).forward(model, x), rtol=0, atol=0)
    last = [model.get_submodule(layer) for layer in find_architecture(name).head]
    again = torch.stack([layer(embedding_BD) for layer in last])
    if len(last) == 1:
        # The same layer on the same numbers.
        torch.testing.assert_close(again[0], logits_BK, rtol=0, atol=1e-6)
    assert logits_BK.shape == (2, 7)
    assert embedding_BD.shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", [CONVOLUTIONAL, TRANSFORMER])
def test_a_teacher_learns_and_can_be_copied(name):
    model = small(name).train()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    logits_BK, _ = model(torch.randn(SECOND))
    assert logits_BK.abs().max() > 0
    logits_BK.square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("shape", [(1, 1, 256, 65), (1, 1, 40, 33), (1, 1, 128, 101)])
@pytest.mark.parametrize("name", [CONVOLUTIONAL, TRANSFORMER])
@torch.no_grad()
def test_inputs_of_any_size_are_accepted(name, shape):
    assert small(name).eval()(torch.randn(shape))[0].shape == (1, 7)


@torch.no_grad()
def test_a_network_of_one_size_must_be_given_the_size():
    name = "timm:resmlp_12_224"
    with pytest.raises(ValueError, match=r"inputs of only one size: give it as input_shape="):
        small(name)
    model = small(name, input_shape=(64, 48)).eval()
    assert model(torch.randn(2, 1, 64, 48))[0].shape == (2, 7)


def test_a_size_that_a_network_cannot_take_is_refused_when_it_is_built():
    with pytest.raises(ValueError, match=r"levit_128s does not take inputs of \(64, 65\)"):
        small("timm:levit_128s", input_shape=(64, 65))


def test_a_size_for_a_network_that_takes_any_is_refused():
    with pytest.raises(ValueError, match="any size: leave input_shape out"):
        small(CONVOLUTIONAL, input_shape=(64, 65))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:convnext_nan", "no timm model convnext_nan; the nearest are .*convnext_nano"),
        ("timm:resnet18.a1_in2k", r"no timm weights resnet18\.a1_in2k; .*resnet18\.a1_in1k"),
    ],
)
def test_an_unknown_model_is_an_error_that_names_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        find_architecture(name)


def test_a_tag_of_weights_is_part_of_the_name():
    entry = find_architecture("timm:resnet18.a1_in1k")
    assert entry.head == ("fc",)
    assert entry.licence == "apache-2.0"
    assert entry.mel_bands is None
    assert entry.longest_frames is None


@torch.no_grad()
def test_the_shortest_clip_is_accepted():
    frames = find_architecture("timm:test_convnext").shortest_frames
    for name in (CONVOLUTIONAL, TRANSFORMER, "timm:test_convnext"):
        assert small(name).eval()(torch.randn(1, 1, 64, frames))[0].isfinite().all()


@pytest.mark.parametrize("name", [CONVOLUTIONAL, TRANSFORMER, "timm:test_convnext"])
@torch.no_grad()
def test_a_file_of_timms_weights_for_colours_gives_what_timm_gives_for_grey(name, tmp_path):
    torch.manual_seed(1)
    published = timm.create_model(name.removeprefix("timm:")).eval()
    torch.save(published.state_dict(), tmp_path / "weights.pt")
    model = small(name, published.num_classes, tmp_path / "weights.pt").eval()
    _, height, width = timm.get_pretrained_cfg(name.removeprefix("timm:")).input_size
    grey = torch.randn(2, 1, height, width)
    # Three equal colours, summed before or after the first convolution: float32 rounding.
    torch.testing.assert_close(
        model(grey)[0], published(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )


def test_a_file_of_this_teachers_own_weights_loads_key_by_key(tmp_path):
    source = small(TRANSFORMER, 7)
    torch.save(source.state_dict(), tmp_path / "own.pt")
    loaded = small(TRANSFORMER, 7, tmp_path / "own.pt")
    for key, value in source.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    other = small(TRANSFORMER, 5, tmp_path / "own.pt")
    assert other.state_dict()["head.weight"].shape[0] == 5


def test_a_file_of_another_timm_model_is_refused(tmp_path):
    torch.save(small(CONVOLUTIONAL).state_dict(), tmp_path / "other.pt")
    with pytest.raises(UnfitWeights, match="missing"):
        small("timm:test_convnext", 7, tmp_path / "other.pt")


@pytest.mark.parametrize(
    "start",
    [
        lambda: build("timm:resnet10t", n_classes=7, weights="pretrained"),
        lambda: build("timm:resnet10t", n_classes=7, weights="published"),
        lambda: fetch_weights("timm:resnet10t", "pretrained"),
    ],
    ids=["pretrained", "published", "fetched ahead"],
)
def test_timm_weights_that_cannot_be_fetched_say_what_to_do(start, tmp_path, monkeypatch):
    # The variables HF_HUB_OFFLINE and HF_HOME are read once, at import.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights) as caught:
        start()
    message = str(caught.value)
    assert message.startswith("no weights from https://huggingface.co/timm/resnet10t.c3_in1k: ")
    for way in ("HF_HUB_OFFLINE=1", "--weights FILE", "--weights none"):
        assert way in message


def test_timm_is_asked_for_its_own_weights(monkeypatch):
    asked = []
    create = timm.create_model

    def create_model(name, pretrained=False, **arguments):
        asked.append((name, pretrained))
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", create_model)
    small(CONVOLUTIONAL, weights="pretrained")
    assert asked == [("resnet10t", True)]


def test_a_timm_model_without_weights_is_refused():
    configs = {name: timm.get_pretrained_cfg(name) for name in timm.list_models("resnet*")}
    name = next(name for name, config in configs.items() if config and not config.has_weights)
    with pytest.raises(ValueError, match=f"timm has no weights for {name}.*--weights none"):
        build(f"timm:{name}", n_classes=7, weights="pretrained")


def test_timm_models_have_no_audioset_weights():
    with pytest.raises(ValueError, match="no AudioSet weights: give weights=pretrained"):
        small(CONVOLUTIONAL, weights="audioset")


def test_no_catalogue_entry_begins_like_timm_models():
    assert not any(name.startswith("timm:") for name in CATALOGUE)
