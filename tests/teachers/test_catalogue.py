"""Every published checkpoint has an entry whose network has the published size."""

import functools
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from audio.front_ends import AUDIOSET, CPJKU23_CP_RESNET, CPJKU23_PASST
from audio.log_mel import LogMel
from teachers import CATALOGUE, MissingWeights, build, find_architecture
from teachers.dymn import DynamicConv
from teachers.fetch import locate_file

FAMILIES = {
    "mobilenet": [name for name in CATALOGUE if name.startswith("mn")],
    "dymn": [name for name in CATALOGUE if name.startswith("dymn")],
    "passt": [name for name in CATALOGUE if name.startswith("passt")],
    "cp_resnet": [name for name in CATALOGUE if name.startswith("cpr")],
}
PUBLISHED_MILLIONS = {
    "mn04_as": 0.983,
    "mn05_as": 1.43,
    "mn10_as": 4.88,
    "mn20_as": 17.91,
    "mn30_as": 39.09,
    "mn40_as": 68.43,
    "mn40_as_ext": 68.43,
    "mn40_as_no_im_pre": 68.43,
    "mn10_as_hop_15": 4.88,
    "mn10_as_mels_256": 4.88,
    # Upstream counts their buffers too.
    "dymn04_as": 1.97,
    "dymn10_as": 10.57,
    "dymn20_as": 40.02,
    "passt": 86.153758,
    "passt_s_swa_p16_128_ap476": 86.153758,
}
"""With 527 classes (upstream's README; PaSST: measured)."""


@pytest.fixture(autouse=True)
def bound_to_meta(monkeypatch):
    """PaSST's constructor reads a number back from a tensor, which the meta device cannot."""
    monkeypatch.setattr(torch, "linspace", functools.partial(torch.linspace, device="cpu"))


def bare(name: str, n_classes: int = 527) -> torch.nn.Module:
    """Return the network without memory for its parameters, not to be changed."""
    return build_bare(find_twin(name), n_classes)


@functools.cache
def build_bare(name: str, n_classes: int) -> torch.nn.Module:
    with torch.device("meta"):
        return build(name, n_classes=n_classes, weights="none").eval()


def find_twin(name: str) -> str:
    """Return the first entry that is made with the same arguments: many differ in weights only."""
    return next(other for other in CATALOGUE if describe_network(other) == describe_network(name))


def describe_network(name: str) -> tuple[str, str, Any]:
    entry = CATALOGUE[name]
    return entry.family, entry.network, entry.arguments


@functools.cache
def find_output_shapes(name: str, bands: int, frames: int) -> tuple[torch.Size, torch.Size]:
    logits_BK, embedding_BD = bare(name, 7)(torch.empty(2, 1, bands, frames, device="meta"))
    return logits_BK.shape, embedding_BD.shape


def test_the_catalogue_holds_all_published_checkpoints():
    assert {family: len(names) for family, names in FAMILIES.items()} == {
        "mobilenet": 35,
        "dymn": 11,
        "passt": 16 + 6,
        "cp_resnet": 1 + 6,
    }
    addresses = [entry.published for entry in CATALOGUE.values() if entry.published]
    # `passt` is another name for the first PaSST.
    assert len(set(addresses)) == len(addresses) - 1
    assert len({locate_file(address) for address in addresses}) == len(set(addresses))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_builds_and_takes_what_it_says(name: str):
    entry, model = CATALOGUE[name], bare(name, 7)
    layers = dict(model.named_modules())
    assert set(entry.head) <= set(layers)
    bands = entry.mel_bands or (40 if entry.front_end is None else entry.front_end.mel_bands)
    for frames in {entry.shortest_frames, min(entry.longest_frames or 101, 101)}:
        logits_shape, embedding_shape = find_output_shapes(find_twin(name), bands, frames)
        assert logits_shape == (2, 7)
        assert embedding_shape[0] == 2
        assert len(embedding_shape) == 2


@pytest.mark.parametrize("name", FAMILIES["passt"])
def test_a_passt_takes_no_more_and_no_fewer_frames_than_it_says(name: str):
    entry, model = CATALOGUE[name], bare(name)
    assert model.max_frames == entry.longest_frames
    for frames in (entry.shortest_frames - 1, entry.longest_frames + 1):
        with pytest.raises(ValueError, match=f"to {entry.longest_frames} frames"):
            model(torch.empty(1, 1, 128, frames, device="meta"))


def test_the_shortest_clip_of_a_cp_resnet_is_the_shortest_that_it_takes():
    model = bare("cpr_128")
    shortest = CATALOGUE["cpr_128"].shortest_frames
    with pytest.raises(RuntimeError, match="small"):
        model(torch.empty(1, 1, 256, shortest - 1, device="meta"))


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_the_networks_have_the_published_numbers_of_parameters(name: str):
    model = bare(name)
    n = sum(parameter.numel() for parameter in model.parameters())
    if name.startswith("dymn"):
        n += sum(buffer.numel() for buffer in model.buffers())
    # Half of the last digit that is printed.
    digits = len(str(PUBLISHED_MILLIONS[name]).partition(".")[2])
    assert n / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], abs=0.5001 * 10**-digits + 1e-3)


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("passt", 12, 99),
        ("passt_s_p16_s16_128_ap468", 8, 62),
        ("passt_s_swa_p16_s14_128_ap471", 9, 71),
        ("passt_s_swa_p16_s12_128_ap473", 10, 83),
        ("passt_s_swa_f128_stfthop100_p16_s10_ap473", 12, 320),
        ("passt_s_swa_f128_stfthop160_p16_s10_ap473", 12, 200),
        ("passt_s_f128_20sec_p16_s10_ap474_swa", 12, 200),
        ("passt_s_f128_30sec_p16_s10_ap473_swa", 12, 300),
        ("passt_dirfms_1", 12, 99),
    ],
)
def test_a_passt_has_positions_for_its_published_grid(name: str, rows: int, columns: int):
    model = bare(name)
    assert model.freq_new_pos_embed.shape == (1, 768, rows, 1)
    assert model.time_new_pos_embed.shape == (1, 768, 1, columns)


def test_the_light_passt_has_seven_blocks():
    assert len(bare("passt_l_kd_p16_128_ap47").blocks) == 7


def test_ten_seconds_through_its_front_end_fit_every_audioset_passt():
    for name in FAMILIES["passt"]:
        entry = CATALOGUE[name]
        frames = entry.front_end.count_frames(10 * entry.front_end.sample_rate)
        assert frames <= entry.longest_frames


def test_front_ends_are_those_that_the_names_say():
    hops = {name: CATALOGUE[name].front_end.hop_samples for name in CATALOGUE if "_hop_" in name}
    assert hops == {f"mn10_as_hop_{ms}": 32 * ms for ms in (5, 15, 20, 25)}
    bands = {name: CATALOGUE[name].front_end.mel_bands for name in CATALOGUE if "_mels_" in name}
    assert bands == {f"mn10_as_mels_{n}": n for n in (40, 64, 256)}
    for name, hop in (("100", 100), ("160", 160)):
        entry = CATALOGUE[f"passt_s_swa_f128_stfthop{name}_p16_s10_ap473"]
        assert entry.front_end.hop_samples == hop
    assert CATALOGUE["mn10_as"].front_end == CATALOGUE["passt"].front_end == AUDIOSET
    assert CATALOGUE["passt_fms_2"].front_end == CPJKU23_PASST
    assert CATALOGUE["cpr_128k_dirfms_3"].front_end == CPJKU23_CP_RESNET


@pytest.mark.parametrize(
    "front_end", {entry.front_end for entry in CATALOGUE.values() if entry.front_end}
)
def test_the_front_end_of_every_checkpoint_can_be_computed(front_end):
    log_mel_BCFT = LogMel(front_end)(torch.zeros(1, 32_000))
    assert log_mel_BCFT.shape == (1, *front_end.compute_shape(32_000))


@pytest.mark.parametrize("name", [name for name in CATALOGUE if CATALOGUE[name].published])
def test_published_weights_are_looked_for_at_the_address_of_the_entry(
    name: str, tmp_path, monkeypatch
):
    asked: list[str] = []

    def refuse(address: str, **_: object) -> Path:
        asked.append(address)
        raise MissingWeights(address, "no network", "none")

    monkeypatch.setattr("teachers.catalogue.fetch_file", refuse)
    entry = CATALOGUE[name]
    with pytest.raises(MissingWeights):
        build(name, n_classes=10, weights="published")
    if entry.trained_on == "AudioSet":
        with pytest.raises(MissingWeights):
            build(name, n_classes=10, weights="audioset")
    else:
        with pytest.raises(ValueError, match=f"on {entry.trained_on}, not on AudioSet.*published"):
            build(name, n_classes=10, weights="audioset")
    assert set(asked) == {entry.published}
    assert re.fullmatch(r"https://github\.com/[\w./()%-]+\.pt", entry.published)


def test_what_weights_were_trained_on_agrees_with_the_names():
    trained_on = {name: entry.trained_on for name, entry in CATALOGUE.items()}
    assert {name for name in trained_on if trained_on[name] == "ImageNet"} == {
        name for name in trained_on if re.search(r"_im(_pytorch)?$", name)
    }
    assert {name for name in trained_on if trained_on[name] == "TAU22"} == {
        name for name in trained_on if re.search(r"fms_[123]$", name)
    }
    assert [name for name in trained_on if trained_on[name] is None] == ["cpr_128"]


def test_mean_average_precision_is_upstreams_where_it_gives_one():
    assert CATALOGUE["mn10_as"].mean_average_precision == 0.471
    assert CATALOGUE["dymn20_as"].mean_average_precision == 0.491
    assert CATALOGUE["passt_s_kd_p16_128_ap486"].mean_average_precision == 0.486
    for name in ("mn01_as", "mn40_as(2)", "mn10_as_fc", "mn10_im", "passt_fms_1"):
        assert CATALOGUE[name].mean_average_precision is None


@pytest.mark.parametrize(
    ("name", "temperature"), [("dymn04_as", 1.0), ("dymn10_as", 1.0), ("dymn10_im", 30.0)]
)
def test_a_dymn_has_the_temperature_at_which_its_training_ended(name: str, temperature: float):
    temperatures = {
        module.temperature for module in bare(name).modules() if isinstance(module, DynamicConv)
    }
    assert temperatures == {temperature}


@pytest.mark.parametrize("weights", ["audioset", "published"])
def test_a_teacher_trained_from_scratch_has_no_published_weights(weights: str):
    with pytest.raises(ValueError, match=r"cpr_128 has no .* weights: give weights=none"):
        build("cpr_128", n_classes=10, weights=weights)


def test_pretrained_is_for_timm_models_only():
    with pytest.raises(ValueError, match="pretrained is for timm: models, and passt is not one"):
        build("passt", n_classes=10, weights="pretrained")


def test_weights_have_no_default():
    arguments: dict[str, Any] = {"n_classes": 10}
    with pytest.raises(TypeError, match="weights"):
        build("mn10_as", **arguments)


@pytest.mark.parametrize(
    ("name", "near"), [("mn10", "mn10_im"), ("pasts", "passt"), ("vgg", "timm:NAME")]
)
def test_an_unknown_teacher_is_an_error_that_names_the_nearest(name: str, near: str):
    with pytest.raises(ValueError, match=f"no teacher {name}; the nearest are .*{near}"):
        find_architecture(name)
