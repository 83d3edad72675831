"""The four families compute what the published implementations compute.

Tolerances: float64 runs of the same network differ by less than 1e-13, and 1e-9 leaves room for
another order of sums; float32 noise was measured at 3e-6 (MobileNet, CP-ResNet, PaSST) and 2.4e-5
(DyMN, whose activations grow), and the nearest mistakes (another epsilon, a hard sigmoid) move the
logits by 6e-3 and more.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import safetensors.torch
import torch
from teacher_golden import fill_by_key, golden_input, load_golden
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from teachers import UnfitWeights, build
from teachers.cp_resnet import CPResNet
from teachers.dymn import DyMN
from teachers.mobilenet import MobileNet
from teachers.passt import PaSST, PatchDraw

BUILD: dict[str, Callable[[], nn.Module]] = {
    "mn04_as_10": lambda: MobileNet(10, width=0.4),
    "mn10_as_527": lambda: MobileNet(527),
    "dymn04_as_10": lambda: DyMN(10, width=0.4),
    "cpr_128_10": lambda: CPResNet(10),
    "passt_10": lambda: PaSST(10),
}
TEACHER = {
    "mn04_as_10": ("mn04_as", 10),
    "mn10_as_527": ("mn10_as", 527),
    "dymn04_as_10": ("dymn04_as", 10),
    "cpr_128_10": ("cpr_128", 10),
    "passt_10": ("passt", 10),
}
"""The same by its name in the catalogue, with the number of classes."""
FLOAT32_ATOL = {
    "mn04_as_10": 1e-4,
    "mn10_as_527": 1e-4,
    "dymn04_as_10": 1e-3,
    "cpr_128_10": 1e-4,
    "passt_10": 5e-5,
}
CONVOLUTIONAL = [name for name in BUILD if name != "passt_10"]
golden_of = functools.cache(load_golden)


@pytest.fixture(scope="module")
def filled() -> Iterator[Callable[[str], nn.Module]]:
    """Return a function from a name to a float32 model with the golden's parameters, made once."""

    @functools.cache
    def build(name: str) -> nn.Module:
        model = BUILD[name]().eval()
        fill_by_key(model, golden_of(name)["keys"])
        return model

    yield build
    build.cache_clear()


def as_float64(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def head(model: nn.Module, embedding_BD: Tensor) -> Tensor:
    """Return the logits of an embedding, in evaluation."""
    if isinstance(model, CPResNet):
        return model.feed_forward(embedding_BD[:, :, None, None]).flatten(1)
    return model.get_submodule("head" if isinstance(model, PaSST) else "classifier")(embedding_BD)


@pytest.mark.parametrize("name", BUILD)
def test_the_state_dict_has_the_published_keys_and_shapes_in_their_order(name, filled):
    published = [(entry["key"], tuple(entry["shape"])) for entry in golden_of(name)["keys"]]
    ours = [(key, tuple(tensor.shape)) for key, tensor in filled(name).state_dict().items()]
    assert ours == published


@pytest.mark.parametrize("name", BUILD)
@torch.no_grad()
def test_logits_agree_in_float64(name, filled):
    golden = golden_of(name)
    model = copy.deepcopy(filled(name)).double()
    logits_BK, embedding_BD = model(golden_input(golden).double())
    expected = as_float64(golden["logits_float64"])
    torch.testing.assert_close(logits_BK, expected, rtol=0, atol=1e-9)
    # The files hold no float64 embedding, but it must be the one that the logits come from.
    torch.testing.assert_close(head(model, embedding_BD), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", BUILD)
@torch.no_grad()
def test_logits_and_embedding_agree_in_float32(name, filled):
    golden = golden_of(name)
    logits_BK, embedding_BD = filled(name)(golden_input(golden))
    tolerance = {"rtol": 0.0, "atol": FLOAT32_ATOL[name]}
    torch.testing.assert_close(logits_BK, torch.tensor(golden["logits"]), **tolerance)
    if "embedding" in golden:
        torch.testing.assert_close(embedding_BD, torch.tensor(golden["embedding"]), **tolerance)
    else:
        assert embedding_BD.shape == (len(logits_BK), 92)


@pytest.mark.parametrize("name", TEACHER)
@torch.no_grad()
def test_a_published_file_loads_key_for_key_and_gives_the_published_logits(name, filled, tmp_path):
    golden, stored = golden_of(name), filled(name).state_dict()
    teacher, n_classes = TEACHER[name]
    file = tmp_path / ("weights.safetensors" if teacher == "passt" else "weights.pt")
    if teacher == "passt":
        safetensors.torch.save_file(stored, file)
    else:
        torch.save(stored, file)
    model = build(teacher, n_classes=n_classes, weights=file).eval()
    file.unlink()
    logits_BK, _ = model(golden_input(golden))
    expected = torch.tensor(golden["logits"])
    torch.testing.assert_close(logits_BK, expected, rtol=0, atol=FLOAT32_ATOL[name])


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name.endswith("_10")])
def test_each_missing_key_of_a_published_file_is_refused(name, filled, tmp_path):
    stored = filled(name).state_dict()
    teacher, n_classes = TEACHER[name]
    file = tmp_path / "weights.pt"
    for key in list(stored)[:: len(stored) // 4]:
        torch.save({other: value for other, value in stored.items() if other != key}, file)
        with pytest.raises(UnfitWeights, match=rf"\n  missing {re.escape(key)}\n"):
            build(teacher, n_classes=n_classes, weights=file)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@torch.no_grad()
def test_one_training_pass_moves_the_running_statistics_as_published(name, filled):
    golden = golden_of(name)
    model = copy.deepcopy(filled(name)).double().train()
    model(golden_input(golden).double())
    for layer, expected in golden["train_mode_running_stats_float64"].items():
        statistics = model.get_submodule(layer).state_dict()
        for key in ("running_mean", "running_var"):
            # The files keep 7 digits.
            torch.testing.assert_close(
                statistics[key], as_float64(expected[key]), rtol=2e-6, atol=1e-7
            )
        assert statistics["num_batches_tracked"] == expected["num_batches_tracked"]


def golden_draw(case: dict[str, Any]) -> PatchDraw:
    def indices(key: str) -> Tensor | None:
        return torch.tensor(case[key]) if key in case else None

    return PatchDraw(
        time_offset=case["time_offset"],
        columns=indices("kept_time_columns"),
        rows=indices("kept_frequency_rows"),
        patches=indices("kept_token_indices"),
    )


@pytest.mark.parametrize(
    "case", ["train_structured", "train_structured_time", "train_unstructured"]
)
@torch.no_grad()
def test_passt_agrees_in_training_when_the_same_patches_stay(case, filled, monkeypatch):
    golden = golden_of("passt_10")
    expected = golden[case]
    model = filled("passt_10")
    monkeypatch.setattr(model, "draw_patches", lambda n_columns: golden_draw(expected))
    monkeypatch.setattr(model, "training", True)
    logits_BK, embedding_BD = model(golden_input(golden))
    tolerance = {"rtol": 0.0, "atol": FLOAT32_ATOL["passt_10"]}
    torch.testing.assert_close(logits_BK, torch.tensor(expected["logits"]), **tolerance)
    if "embedding" in expected:
        torch.testing.assert_close(embedding_BD, torch.tensor(expected["embedding"]), **tolerance)


def n_macs(model: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(shape, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("build", "shape", "params", "macs"),
    [
        (lambda: MobileNet(10, width=0.4), (1, 1, 256, 65), 718_378, 17_482_880),
        (lambda: MobileNet(10, width=0.5), (1, 1, 256, 65), 1_099_842, 25_476_736),
        (lambda: MobileNet(10), (1, 1, 256, 65), 4_214_554, 87_606_784),
        (lambda: DyMN(10, width=0.4), (1, 1, 256, 65), 1_696_018, 20_218_752),
        (lambda: DyMN(10), (1, 1, 256, 65), 9_886_202, 103_768_512),
        (lambda: DyMN(527), (1, 1, 256, 65), 10_548_479, None),
        (lambda: CPResNet(10), (1, 1, 256, 65), 127_684, 45_980_032),
        (lambda: CPResNet(10, base_channels=128), (1, 1, 256, 65), 2_376_292, None),
        (lambda: PaSST(10), (1, 1, 128, 101), 85_358_612, 9_587_080_704),
    ],
    ids=["mn04", "mn05", "mn10", "dymn04", "dymn10", "dymn10_527", "cpr", "cpr_wide", "passt"],
)
def test_size_and_cost_are_the_measured_ones(build, shape, params, macs):
    # PaSST's constructor reads numbers back from tensors, which the meta device does not hold.
    model = build().eval().to("meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == params
    if macs is not None:
        assert n_macs(model, *shape) == macs


def test_patchout_halves_the_cost_of_training_passt():
    model = PaSST(10).train().to("meta")
    model.draw = lambda n_columns: PatchDraw(rows=torch.arange(6))
    assert n_macs(model, 1, 1, 128, 101) == 4_835_384_832
