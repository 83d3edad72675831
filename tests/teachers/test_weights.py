import logging

import pytest
import torch

from teachers import MissingWeights, UnfitWeights, build
from teachers.catalogue import CATALOGUE
from teachers.weights import find_weights

SMALL = {"width": 0.1}


def save(model, file, **changes):
    torch.save(model.state_dict() | changes, file)
    return file


def test_weights_from_a_file_replace_the_random_ones(tmp_path):
    source = build("mn10_as", n_classes=10, **SMALL)
    file = save(source, tmp_path / "mn.pt")
    loaded = build("mn10_as", n_classes=10, weights=file, **SMALL)
    for key, value in source.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)


def test_a_head_for_other_classes_is_replaced_and_said_so(tmp_path, caplog):
    source = build("mn10_as", n_classes=527, **SMALL)
    file = save(source, tmp_path / "mn.pt")
    with caplog.at_level(logging.INFO):
        loaded = build("mn10_as", n_classes=10, weights=file, **SMALL)
    assert "fresh=classifier.5.weight,classifier.5.bias" in caplog.text
    own, stored = loaded.state_dict(), source.state_dict()
    assert own["classifier.5.weight"].shape[0] == 10
    torch.testing.assert_close(own["classifier.2.weight"], stored["classifier.2.weight"])


def test_weights_of_another_architecture_are_refused_with_their_keys(tmp_path):
    file = save(build("cpr_128", n_classes=10), tmp_path / "cpr.pt")
    with pytest.raises(UnfitWeights, match=r"(?s)cpr\.pt does not fit MobileNet.*missing features"):
        build("mn10_as", n_classes=10, weights=file, **SMALL)


def test_weights_of_another_width_are_refused_with_both_shapes(tmp_path):
    file = save(build("mn10_as", n_classes=10, width=0.3), tmp_path / "mn.pt")
    with pytest.raises(UnfitWeights, match=r"shape \(\d+.*expected \(8"):
        build("mn10_as", n_classes=10, weights=file, **SMALL)


def test_missing_weights_name_the_address_and_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path))
    with pytest.raises(MissingWeights) as caught:
        build("mn10_as", n_classes=10, weights="audioset")
    message = str(caught.value)
    assert CATALOGUE["mn10_as"].audioset_weights in message
    assert str(tmp_path / "mn10_as_mAP_471.pt") in message
    assert "--weights none" in message


def test_weights_in_place_are_found_by_the_name_of_their_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path))
    (tmp_path / "mn.pt").touch()
    assert find_weights("https://example.org/releases/mn.pt") == tmp_path / "mn.pt"


def test_a_teacher_trained_from_scratch_has_no_published_weights():
    with pytest.raises(ValueError, match="cpr_128 has no AudioSet weights"):
        build("cpr_128", n_classes=10, weights="audioset")


def test_an_unknown_teacher_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="no teacher vgg; there are: mn04_as"):
        build("vgg", n_classes=10)
