"""Members as files that other programs read."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import Case, make_case

from logit_store import (
    LogitKey,
    LogitStore,
    MissingClips,
    MissingLogits,
    MissingMember,
    UnfitExport,
)
from logit_store.__main__ import main
from logit_store.exporters import LogitsForm, export_members, find_members
from logit_store.importers import import_logits

KEY = LogitKey("tau", 25, "mn10_as_dir_fms-3f9c21ab04de")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    case = make_case(tmp_path)
    case.store.write(KEY, case.logits_NK, {"kind": "teacher"})
    return case


def test_a_tensor_has_the_published_form(case: Case, tmp_path: Path) -> None:
    paths = export_members(case.store, [KEY], tmp_path / "new" / "logits", "pt")
    assert paths == {KEY: tmp_path / "new" / "logits" / "mn10_as_dir_fms_25.pt"}
    tensor = torch.load(paths[KEY], weights_only=True)
    assert (tensor.dtype, tensor.is_contiguous()) == (torch.float32, True)
    np.testing.assert_array_equal(tensor.numpy(), case.logits_NK)


def test_a_table_has_the_form_of_dcase(case: Case, tmp_path: Path) -> None:
    path = export_members(case.store, [KEY], tmp_path, "csv")[KEY]
    with path.open(newline="") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert '"' not in path.read_text()
    assert header == ["filename", "scene_label", "airport", "bus", "park"]
    assert [row[0] for row in rows] == [Path(name).name for name in case.names]
    probabilities = np.array([row[2:] for row in rows], float)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    largest = [header[2 + k] for k in case.logits_NK.argmax(axis=1)]
    assert [row[1] for row in rows] == largest


def test_arrays_hold_clips_classes_and_labels(case: Case, tmp_path: Path) -> None:
    path = export_members(case.store, [KEY], tmp_path, "npz")[KEY]
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["logits"], case.logits_NK)
        assert arrays["classes"].tolist() == list(case.scenes)
        named = [name.decode() for name in arrays["filenames"].tolist()]
        scenes = arrays["classes"][arrays["labels"]].tolist()
    assert named == [Path(name).name for name in case.names]
    assert scenes == [name.split("-")[0] for name in named]


@pytest.mark.parametrize("form", ["pt", "csv", "npz"])
def test_an_export_can_be_imported_unchanged(case: Case, tmp_path: Path, form: LogitsForm) -> None:
    path = export_members(case.store, [KEY], tmp_path / "logits", form)[KEY]
    other = LogitStore(tmp_path / "other")
    other.write_clips("tau", case.store.read_clips("tau"))
    (found,) = import_logits(other, "tau", [path])
    assert found.key.member.startswith("mn10_as_dir_fms-")
    ours_NK, theirs_NK = case.store.read([KEY])[0], other.read([found.key])[0]
    if form == "csv":
        # The mean of the logits is lost in probabilities; float16 below 16 has steps of 2^-7.
        assert np.ptp(theirs_NK - ours_NK, axis=1).max() < 2 * 2**-8 + 1e-5
    else:
        np.testing.assert_array_equal(theirs_NK, ours_NK)


def test_a_file_is_replaced_and_no_other_file_remains(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "logits"
    folder.mkdir()
    (folder / "mn10_as_dir_fms_25.pt").write_text("old")
    export_members(case.store, [KEY], folder, "pt")
    assert [each.name for each in folder.iterdir()] == ["mn10_as_dir_fms_25.pt"]
    assert torch.load(folder / "mn10_as_dir_fms_25.pt", weights_only=True).shape == (57, 3)


def test_members_that_would_share_a_file_are_refused(case: Case, tmp_path: Path) -> None:
    twin = LogitKey("tau", 25, "mn10_as_dir_fms-000000000000")
    case.store.write(twin, case.logits_NK, {})
    with pytest.raises(UnfitExport, match="would share files") as caught:
        export_members(case.store, [KEY, twin], tmp_path / "logits", "pt")
    assert twin.member in str(caught.value)
    assert not (tmp_path / "logits").exists()


def test_an_error_names_missing_members(case: Case, tmp_path: Path) -> None:
    absent = LogitKey("tau", 25, "passt-3f9c21ab04de")
    with pytest.raises(MissingLogits, match="passt-3f9c21ab04de"):
        export_members(case.store, [absent], tmp_path, "pt")


def test_the_form_of_dcase_refuses_names_that_need_quotes(
    store: LogitStore, logits_NK: np.ndarray, key: LogitKey, tmp_path: Path
) -> None:
    store.write(key, logits_NK, {})
    with pytest.raises(UnfitExport, match="take another --form"):
        export_members(store, [key], tmp_path, "csv")
    (path,) = export_members(store, [key], tmp_path, "npz").values()
    with np.load(path) as arrays:
        assert 'park "city"' in arrays["classes"].tolist()


def test_members_are_found_by_pattern_with_or_without_fingerprint(case: Case) -> None:
    passt = LogitKey("tau", 25, "passt-3f9c21ab04de")
    later = LogitKey("tau", 100, "passt-000000000000")
    for key in (passt, later):
        case.store.write(key, case.logits_NK, {})
    assert set(find_members(case.store, "tau", None, ["*"])) == {KEY, passt, later}
    assert find_members(case.store, "tau", 25, ["passt"]) == [passt]
    assert find_members(case.store, "tau", None, ["mn*", KEY.member, "*04de"]) == [KEY, passt]
    with pytest.raises(MissingMember, match="mn11"):
        find_members(case.store, "tau", None, ["passt", "mn11*"])
    with pytest.raises(MissingClips):
        find_members(case.store, "cochlscene", None, ["*"])


def test_the_commands_copy_logits_from_one_store_to_another(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = case.store.address, str(tmp_path / "other")
    folder = str(tmp_path / "logits")
    where = ["--store", ours, "--corpus", "tau", "--split", "25"]
    assert main(["export", *where, "--form", "npz", "--to", folder, "mn10_as_dir_fms"]) == 0
    header, row = capfd.readouterr().out.splitlines()
    assert header.split("\t") == ["member", "split", "file"]
    assert row.split("\t") == [KEY.member, "25", f"{folder}/mn10_as_dir_fms_25.npz"]
    command = ["import", "--store", theirs, "--corpus", "tau", folder]
    assert main(command) == 1
    assert "--root FOLDER" in capfd.readouterr().err
    assert main([*command, "--root", str(case.root), "--csv"]) == 0
    (line,) = csv.DictReader(capfd.readouterr().out.splitlines())
    assert (line["split"], line["new"].lower(), line["remarks"]) == ("25", "true", "")
    assert float(line["accuracy_fit"]) > 0.9
    (key,) = LogitStore(theirs).keys()
    assert key.member == line["member"]


def test_errors_of_the_commands_are_one_line(
    case: Case, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "passt_25.pt"
    torch.save(torch.zeros(3, 3), file)
    where = ["--store", case.store.address, "--corpus", "tau"]
    assert main(["import", *where, str(file)]) == 1
    error = capfd.readouterr().err
    assert "3 rows without file names, expected 57" in error
    assert error.count("\n") == 1
    assert main(["export", *where, "--form", "pt", "--to", str(tmp_path), "no*"]) == 1
    assert "no member 'no*'" in capfd.readouterr().err
