"""Weights are loaded into a model, or an error says which do not fit."""

import logging
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from teachers import MissingWeights, UnfitWeights, build, fetch_weights
from teachers.fetch import locate_file
from teachers.weights import MAX_LISTED, load_weights, read_weights

SMALL = {"width": 0.1}
HEAD = ("classifier.5",)


def mobilenet(n_classes: int = 10, weights: str | Path = "none", width: float = 0.1) -> nn.Module:
    return build("mn10_as", n_classes=n_classes, weights=weights, width=width)


def save(model: nn.Module, file: Path, **changes: Tensor) -> Path:
    torch.save(model.state_dict() | changes, file)
    return file


def assert_same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mn.pt", "mn.safetensors"])
def test_weights_from_a_file_replace_the_random_ones(name: str, tmp_path: Path, caplog):
    source, file = mobilenet(), tmp_path / name
    if file.suffix == ".pt":
        save(source, file)
    else:
        safetensors.torch.save_file(source.state_dict(), file)
    for weights in (file, str(file), file.as_uri()):
        loaded = mobilenet(weights=weights)
        for key, value in source.state_dict().items():
            assert_same(loaded.state_dict()[key], value)
    assert not caplog.records


def test_a_head_for_other_classes_is_replaced_with_one_warning(tmp_path: Path, caplog):
    source = mobilenet(527)
    file = save(source, tmp_path / "mn.pt")
    for _ in range(2):
        loaded = mobilenet(10, file)
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert "replaced=classifier.5.weight, classifier.5.bias" in said[0].getMessage()
    assert str(file) in said[0].getMessage()
    own, stored = loaded.state_dict(), source.state_dict()
    assert own["classifier.5.weight"].shape[0] == 10
    assert_same(own["classifier.2.weight"], stored["classifier.2.weight"])


def test_a_file_without_a_head_gets_a_fresh_one(tmp_path: Path):
    stored = {k: v for k, v in mobilenet().state_dict().items() if not k.startswith(HEAD[0])}
    torch.save(stored, tmp_path / "mn.pt")
    own = mobilenet(10, tmp_path / "mn.pt").state_dict()
    assert_same(own["classifier.2.weight"], stored["classifier.2.weight"])


def test_a_fresh_head_stays_fresh_even_if_the_stored_one_fits(tmp_path: Path):
    source, model = mobilenet(), mobilenet()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_weights(model, save(source, tmp_path / "mn.pt"), ("classifier",), fresh_head=True)
    for key, value in model.state_dict().items():
        expected = before if key.startswith("classifier.") else source.state_dict()
        assert_same(value, expected[key])


def test_weights_of_another_architecture_are_refused_with_their_keys(tmp_path: Path):
    file = save(build("cpr_128", n_classes=10, weights="none"), tmp_path / "cpr.pt")
    with pytest.raises(UnfitWeights, match=r"(?s)cpr\.pt does not fit MobileNet.*missing features"):
        mobilenet(weights=file)


def test_a_long_list_of_misfits_is_cut_and_counted(tmp_path: Path):
    torch.save({}, tmp_path / "empty.pt")
    n_keys = len(mobilenet().state_dict())
    with pytest.raises(UnfitWeights) as caught:
        mobilenet(weights=tmp_path / "empty.pt")
    message = str(caught.value)
    assert message.count("missing ") == MAX_LISTED
    # A missing head is not an error.
    assert f"and {n_keys - 2 - MAX_LISTED} more" in message


def test_weights_of_another_width_are_refused_with_both_shapes(tmp_path: Path):
    file = save(mobilenet(width=0.3), tmp_path / "mn.pt")
    with pytest.raises(UnfitWeights, match=r"shape \(\d+.*expected \(8"):
        mobilenet(weights=file)


@pytest.mark.parametrize(
    "change",
    [
        {"classifier.5.weight": torch.zeros(10, 7)},
        {"classifier.5.bias": torch.zeros(10, 1)},
        {"features.0.0.weight": torch.zeros(8, 3, 3, 3)},
    ],
    ids=["head of another embedding", "head of another rank", "three input channels"],
)
def test_one_shape_off_is_refused_by_its_key(change: dict[str, Tensor], tmp_path: Path):
    file = save(mobilenet(), tmp_path / "mn.pt", **change)
    (key, value), *_ = change.items()
    with pytest.raises(UnfitWeights) as caught:
        mobilenet(weights=file)
    assert f"{key}: shape {tuple(value.shape)}, expected " in str(caught.value)
    assert str(caught.value).count(": shape (") == 1


@pytest.mark.parametrize("key", ["features.3.block.1.1.running_var", "classifier.5.bias"])
def test_one_missing_key_is_refused_by_its_name(key: str, tmp_path: Path):
    stored = mobilenet().state_dict()
    del stored[key]
    torch.save(stored, tmp_path / "mn.pt")
    with pytest.raises(UnfitWeights, match=f"missing {key}"):
        mobilenet(weights=tmp_path / "mn.pt")


def test_an_unknown_key_is_refused_by_its_name(tmp_path: Path):
    file = save(mobilenet(), tmp_path / "mn.pt", **{"module.extra": torch.zeros(1)})
    with pytest.raises(UnfitWeights, match=r"unknown module\.extra"):
        mobilenet(weights=file)


class MakesAFile:
    """If it were unpickled with trust, it would create a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return Path.touch, (self.place,)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path):
    torch.save({"features.0.0.weight": MakesAFile(tmp_path / "ran")}, tmp_path / "mn.pt")
    # The payload works: a reader that trusts the file runs it.
    torch.load(tmp_path / "mn.pt", weights_only=False)
    (tmp_path / "ran").unlink()
    with pytest.raises(
        UnfitWeights, match=r"(?s)mn\.pt is not a state dict.*is never run"
    ) as caught:
        mobilenet(weights=tmp_path / "mn.pt")
    assert not (tmp_path / "ran").exists()
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["mn.pt", "mn.safetensors"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<!DOCTYPE html><html><body>Not Found</body></html>", "is a web page"),
        (b"\n <html>", "is a web page"),
        (b"", "is empty"),
        (b"\x80\x02broken", "cannot be read"),
        (b"PK\x03\x04broken", "cannot be read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "cannot be read"),
    ],
)
def test_what_is_not_a_state_dict_is_refused_with_a_way_out(
    name: str, content: bytes, problem: str, tmp_path: Path
):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(UnfitWeights) as caught:
        mobilenet(weights=file)
    assert str(caught.value).startswith(f"{file} is not a state dict: it {problem}")
    assert "delete it to fetch it again" in str(caught.value)


def test_a_truncated_file_is_reported(tmp_path: Path):
    file = save(mobilenet(), tmp_path / "mn.pt")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UnfitWeights, match="it is truncated or of another kind"):
        read_weights(file)


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ([torch.zeros(1)], "holds a list"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": 3}, "than tensors: state_dict, epoch"),
    ],
)
def test_contents_other_than_tensors_are_named(stored: object, problem: str, tmp_path: Path):
    torch.save(stored, tmp_path / "mn.pt")
    with pytest.raises(UnfitWeights, match=problem):
        read_weights(tmp_path / "mn.pt")


def test_a_missing_file_is_reported_with_the_alternatives(tmp_path: Path):
    with pytest.raises(MissingWeights, match="(?s)audioste: there is no such file.*audioset"):
        mobilenet(weights="audioste")


def test_a_cached_web_page_names_the_file_and_the_way_out(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path))
    address = "https://nowhere.invalid/mn.pt"
    locate_file(address).write_bytes(b"<html>Sign in first</html>")
    with pytest.raises(
        UnfitWeights, match=r"mn-[0-9a-f]{12}\.pt is not a state dict: it is a web page"
    ):
        mobilenet(weights=address)


def test_fetching_ahead_returns_the_file_that_building_uses(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path))
    address = "https://nowhere.invalid/mn.pt"
    source = mobilenet()
    save(source, locate_file(address))
    assert fetch_weights("mn10_as", address) == locate_file(address)
    assert fetch_weights("mn10_as", "none") is None
    loaded = mobilenet(weights=address)
    assert_same(loaded.state_dict()["classifier.5.bias"], source.state_dict()["classifier.5.bias"])


def test_weights_that_unpack_to_more_than_their_file_are_refused(tmp_path):
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"weight": torch.zeros(1000, 1000)}, plain)
    with (
        zipfile.ZipFile(plain) as whole,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in whole.namelist():
            small.writestr(name, whole.read(name))
    assert set(read_weights(plain)) == {"weight"}
    with pytest.raises(UnfitWeights, match="has compressed records .* torch.save never writes"):
        read_weights(packed)
