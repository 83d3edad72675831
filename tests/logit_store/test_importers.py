"""Logits that others published become members, or are refused with a reason."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
from foreign_files import Case, make_case, write_text_table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.errors import CorpusError
from logit_store import ClipsMismatch, ImportRefused, LogitStore, MissingClips, UnfitImport
from logit_store.alignment import LabelledClips, align
from logit_store.foreign import ForeignLogits
from logit_store.importers import ensure_clips, import_logits

Writer = Callable[[Path, Case, np.ndarray], Path]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def save_pt(file: Path, logits: np.ndarray) -> Path:
    torch.save(torch.from_numpy(logits), file)
    return file


def save_csv(file: Path, case: Case, rows: np.ndarray, delimiter: str = "\t") -> Path:
    columns = {scene: case.logits_NK[rows, k] for k, scene in enumerate(case.scenes)}
    names = [case.names[row] for row in rows]
    backwards = dict(reversed(columns.items()))
    return write_text_table(file, names, {"scene_label": ["?"] * len(rows), **backwards}, delimiter)


def save_comma_csv(file: Path, case: Case, rows: np.ndarray) -> Path:
    return save_csv(file, case, rows, ",")


def save_npz(file: Path, case: Case, rows: np.ndarray) -> Path:
    names = np.array([case.names[row] for row in rows])
    classes = np.array(case.scenes[::-1])
    np.savez(file, filenames=names, logits=case.logits_NK[rows, ::-1], classes=classes)
    return file


def save_hdf5(file: Path, case: Case, rows: np.ndarray) -> Path:
    with h5py.File(file, "w") as opened:
        opened["filenames"] = [case.names[row] for row in rows]
        opened["logits"] = case.logits_NK[rows]
    return file


KEYED = {
    "passt_25.csv": save_csv,
    "comma_25.csv": save_comma_csv,
    "passt_25.npz": save_npz,
    "passt_25.h5": save_hdf5,
    "passt_25.hdf5": save_hdf5,
}


def refusal(case: Case, *paths: Path, **options: object) -> str:
    """Why an import is refused; nothing was stored."""
    with pytest.raises(ImportRefused) as caught:
        import_logits(case.store, "tau", paths, **options)
    assert case.store.keys() == []
    return str(caught.value)


def test_a_folder_of_tensors_becomes_members_of_their_splits(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "logits"
    folder.mkdir()
    for name in ("mn10_as_dir_fms_early2_25", "mn10_as_dir_fms_early2_100", "passt_100"):
        save_pt(folder / f"{name}.pt", case.logits_NK)
    (folder / "README.md").write_text("not logits")
    seen: list[tuple[int, int]] = []
    found = import_logits(
        case.store, "tau", [folder], on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(step, 6) for step in range(1, 7)]
    teachers = [(each.key.member.rsplit("-", 1)[0], each.key.split) for each in found]
    assert teachers == [
        ("mn10_as_dir_fms_early2", 100),
        ("mn10_as_dir_fms_early2", 25),
        ("passt", 100),
    ]
    assert all(each.new and each.accuracy > 0.9 and not each.remarks for each in found)
    for each in found:
        (stored_NK,) = case.store.read([each.key])
        np.testing.assert_array_equal(stored_NK, case.logits_NK)
    record = case.store.read_record(found[2].key)
    assert (record["kind"], record["protocol"], record["imported"]) == (
        "teacher",
        "published",
        True,
    )
    assert record["recipe"] == {"name": "passt"}
    assert (record["file"], len(record["sha256"])) == ("passt_100.pt", 64)
    assert case.store.keys(kind="teacher", split=25) == [found[1].key]


@pytest.mark.parametrize(("file", "write"), KEYED.items(), ids=KEYED)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32 - 1))
def test_rows_and_columns_of_a_table_may_have_any_order(
    case: Case, tmp_path: Path, file: str, write: Writer, seed: int
) -> None:
    rows = np.random.default_rng(seed).permutation(len(case.names))
    (found,) = import_logits(case.store, "tau", [write(tmp_path / file, case, rows)])
    (stored_NK,) = case.store.read([found.key])
    np.testing.assert_array_equal(stored_NK, case.logits_NK)
    assert case.store.read_record(found.key)["protocol"] == "honest"


def test_the_ensemble_of_cpjku_is_imported_with_its_split_and_a_name(
    case: Case, tmp_path: Path
) -> None:
    file = tmp_path / "ensemble_logits.pt"
    torch.save(torch.from_numpy(case.logits_NK).half(), file)
    (found,) = import_logits(case.store, "tau", [file], split=100, member="cpjku")
    assert found.key.member.startswith("cpjku-")
    assert found.key.split == 100


def test_an_imported_file_is_not_stored_again(case: Case, tmp_path: Path) -> None:
    file = save_pt(tmp_path / "passt_25.pt", case.logits_NK)
    (first,) = import_logits(case.store, "tau", [file])
    before = case.store.members()
    (second,) = import_logits(case.store, "tau", [file])
    assert (first.new, second.new) == (True, False)
    assert (second.key, second.accuracy) == (first.key, first.accuracy)
    assert case.store.members() == before
    (other,) = import_logits(case.store, "tau", [file], protocol="honest")
    assert other.new
    assert other.key != first.key


def test_rows_in_another_order_are_refused_as_misaligned(case: Case, tmp_path: Path) -> None:
    mixed = np.random.default_rng(0).permutation(case.logits_NK)
    words = refusal(case, save_pt(tmp_path / "passt_25.pt", mixed))
    assert "passt_25.pt: misaligned: accuracy" in words
    assert "a random order gives 32.4%, the right one more than 66.2%" in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda z: z[:-1], "56 rows without file names, expected 57"),
        (lambda z: z[:, :2], "2 columns, expected 3"),
        (lambda z: z[0], "logits of shape (3,)"),
        (lambda z: np.where(z == z[7, 1], np.nan, z), "row 7 (from 0, clip airport-lyon-"),
        (lambda z: np.where(z == z[7, 1], np.inf, z), "class bus: inf, expected a finite number"),
        (lambda z: np.where(z == z[7, 1], 1e5, z), "class bus: 100000.0, expected a finite"),
        (lambda z: 0 * z, "misaligned"),
    ],
    ids=["a row short", "a column short", "one axis", "nan", "inf", "too large", "all equal"],
)
def test_a_tensor_that_does_not_fit_is_refused(
    case: Case, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    logits = change(case.logits_NK).astype(np.float32)
    assert words in refusal(case, save_pt(tmp_path / "passt_25.pt", logits))


class _Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


def test_code_in_a_pickle_does_not_run(case: Case, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    by_torch, by_pickle = tmp_path / "bomb_25.pt", tmp_path / "plain_25.pt"
    torch.save(_Bomb(target), by_torch)
    by_pickle.write_bytes(pickle.dumps(_Bomb(target), protocol=2))
    words = refusal(case, by_torch, by_pickle)
    assert words.count("no plain tensor (what a pickle would run is not run)") == 2
    in_numpy = tmp_path / "bomb_25.npz"
    np.savez(in_numpy, filenames=np.array([_Bomb(target)], dtype=object), logits=case.logits_NK)
    assert "filenames of type object, expected text; Python objects are not" in refusal(
        case, in_numpy
    )
    assert not target.exists()


@pytest.mark.parametrize("ending", ["pt", "csv", "npz", "h5"])
@pytest.mark.parametrize("data", [b"", b"\x00\x01 nothing of the kind", b"PK\x03\x04 cut off"])
def test_an_error_names_a_file_in_another_format(
    case: Case, tmp_path: Path, ending: str, data: bytes
) -> None:
    file = tmp_path / f"passt_25.{ending}"
    file.write_bytes(data)
    assert f"passt_25.{ending}: " in refusal(case, file)


def test_a_state_dict_is_refused(case: Case, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "passt_25.pt")
    assert "holds a dict, expected one tensor" in refusal(case, tmp_path / "passt_25.pt")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("passt.pt", {}, "its name has no split: name it <teacher>_<split>.pt"),
        ("passt_fms_1.pt", {}, "its name has no split"),
        ("passt_25.pt", {"split": 50}, "its name says split 25, but --split 50"),
        ("pas st_25.pt", {}, "give another with --member"),
        ("passt_25.txt", {}, "nothing that ends in .pt, .csv, .h5, .hdf5, .npz"),
    ],
)
def test_a_file_whose_name_has_no_split_is_refused(
    case: Case, tmp_path: Path, name: str, options: dict[str, int], words: str
) -> None:
    assert words in refusal(case, save_pt(tmp_path / name, case.logits_NK), **options)


def test_one_bad_file_stops_the_import_and_all_bad_files_are_named(
    case: Case, tmp_path: Path
) -> None:
    good = save_pt(tmp_path / "good_25.pt", case.logits_NK)
    short = save_pt(tmp_path / "short_25.pt", case.logits_NK[1:])
    late = save_pt(tmp_path / "late_25.pt", np.roll(case.logits_NK, 19, axis=0))
    with pytest.raises(ImportRefused) as caught:
        import_logits(case.store, "tau", [good, short, late])
    assert [problem.path for problem in caught.value.problems] == [short, late]
    assert "nothing imported, because 2 file(s) do not fit" in str(caught.value)
    assert case.store.keys() == []


def test_paths_without_files_are_refused(case: Case, tmp_path: Path) -> None:
    assert "gone_25.pt: No such file or directory" in refusal(case, tmp_path / "gone_25.pt")
    (tmp_path / "empty").mkdir()
    assert "empty: nothing that ends in" in refusal(case, tmp_path / "empty")


def test_hidden_files_are_passed_over_and_what_cannot_be_imported_is_named(
    case: Case, tmp_path: Path
) -> None:
    folder = tmp_path / "logits"
    folder.mkdir()
    good = save_pt(folder / "good_25.pt", case.logits_NK)
    (folder / "._good_25.pt").write_bytes(b"\0\5\x16\7")
    assert [each.file for each in import_logits(case.store, "tau", [folder])] == [good]
    os.mkfifo(folder / "pipe_25.csv")
    (folder / "circle_25.pt").symlink_to("circle_25.pt")
    good.rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9_25.pt"))
    with pytest.raises(ImportRefused) as caught:
        import_logits(case.store, "tau", [folder])
    assert str(caught.value).splitlines()[1:] == [
        rf"  {folder}/caf\xe9_25.pt: the name is not UTF-8; rename it",
        f"  {folder}/circle_25.pt: Too many levels of symbolic links",
        f"  {folder}/pipe_25.csv: is no regular file, but a folder, pipe, socket or device; remove it",
    ]


def test_a_member_name_needs_a_single_file(case: Case, tmp_path: Path) -> None:
    files = [save_pt(tmp_path / f"{name}_25.pt", case.logits_NK) for name in "ab"]
    assert "a second file for the one member 'x'" in refusal(case, *files, member="x")


def test_a_file_that_changes_between_check_and_write_is_not_stored(
    case: Case, tmp_path: Path
) -> None:
    file = save_pt(tmp_path / "passt_25.pt", case.logits_NK)

    def change(done: int, total: int) -> None:
        save_pt(file, case.logits_NK + 1)

    with pytest.raises(UnfitImport, match="was changed while it was imported"):
        import_logits(case.store, "tau", [file], on_progress=change)
    assert case.store.keys() == []


def table_columns(case: Case) -> dict[str, list[object]]:
    return {scene: case.logits_NK[:, k].tolist() for k, scene in enumerate(case.scenes)}


def test_unknown_columns_and_rows_are_omitted_with_a_remark(case: Case, tmp_path: Path) -> None:
    columns = {each: [*values, 0.5] for each, values in table_columns(case).items()}
    columns |= {"scene_label": ["bus"] * 58, "confidence": [1.0] * 58, "epoch": [3] * 58}
    names = [*case.names, "audio/tram-oslo-1-1-0-a.wav"]
    file = write_text_table(tmp_path / "passt_25.csv", names, columns)
    (found,) = import_logits(case.store, "tau", [file])
    rows, unused = found.remarks
    assert rows == (
        "not used: 1 rows of clips that the corpus lacks, first audio/tram-oslo-1-1-0-a.wav"
    )
    assert unused == "not used: column confidence, epoch"
    assert case.store.read_record(found.key)["remarks"] == [rows, unused]


def test_a_table_with_missing_or_repeated_rows_is_refused(case: Case, tmp_path: Path) -> None:
    columns = table_columns(case)
    shorter = {scene: values[2:] for scene, values in columns.items()}
    file = write_text_table(tmp_path / "passt_25.csv", case.names[2:], shorter)
    first = Path(case.names[0]).stem
    assert f"no row for 2 of the 57 clips of corpus tau, the first is {first}" in refusal(
        case, file
    )
    doubled = (case.names[1], *case.names[1:])
    write_text_table(file, doubled, columns)
    words = refusal(case, file)
    assert f"1 clips have more than one row, the first is {Path(case.names[1]).stem}" in words


def test_a_table_with_other_classes_is_refused(case: Case, tmp_path: Path) -> None:
    columns = table_columns(case)
    columns["metro"] = columns.pop("bus")
    file = write_text_table(tmp_path / "passt_25.csv", case.names, columns)
    assert "columns filename, airport, park, metro; expected filename and one per scene" in (
        refusal(case, file)
    )
    names, classes = np.array(case.names), np.array(["airport", "metro", "park"])
    other = tmp_path / "passt_25.npz"
    np.savez(other, filenames=names, logits=case.logits_NK, classes=classes)
    assert "classes airport, metro, park; expected airport, bus, park" in refusal(case, other)
    np.savez(other, filenames=names, logits=case.logits_NK, classes=classes[:2])
    assert "2 classes for 3 columns" in refusal(case, other)
    np.savez(other, filenames=names[1:], logits=case.logits_NK)
    assert "56 file names for 57 rows" in refusal(case, other)
    np.savez(other, logits=case.logits_NK)
    assert "no array filenames; its arrays are: logits" in refusal(case, other)


def test_an_error_names_the_row_of_a_cell_that_is_not_a_number(case: Case, tmp_path: Path) -> None:
    columns = table_columns(case)
    columns["bus"][3] = "many"
    file = write_text_table(tmp_path / "passt_25.csv", case.names, columns)
    assert "invalid value 'many'" in refusal(case, file)
    columns["bus"][3] = ""
    write_text_table(file, case.names, columns)
    assert "row 3 (from 0, clip airport-lyon-" in refusal(case, file)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_table_in_utf_16_is_refused_in_words(case: Case, tmp_path: Path, encoding: str) -> None:
    file = write_text_table(tmp_path / "passt_25.csv", case.names, table_columns(case))
    file.write_bytes(file.read_text().encode(encoding))
    assert "passt_25.csv: no text in UTF-8, perhaps in UTF-16; save it" in refusal(case, file)


def test_probabilities_become_logarithms_with_a_remark(case: Case, tmp_path: Path) -> None:
    exps = np.exp(case.logits_NK.astype(np.float64))
    probabilities = exps / exps.sum(axis=1, keepdims=True)
    probabilities[0] = [1, 0, 0]
    file = save_pt(tmp_path / "passt_25.pt", probabilities.astype(np.float32))
    (found,) = import_logits(case.store, "tau", [file])
    assert found.remarks == ("probabilities: took logarithms, of 1e-12 at least",)
    (stored_NK,) = case.store.read([found.key])
    # float16 of numbers below 16: steps of 2^-7 at most, so errors of 2^-8, twice for two numbers.
    differences = (stored_NK - case.logits_NK)[1:]
    assert np.ptp(differences, axis=1).max() < 2 * 2**-8 + 1e-5
    np.testing.assert_allclose(stored_NK[0], [0, -27.63, -27.63], atol=0.01)


def test_logarithms_of_probabilities_are_stored_unchanged(case: Case, tmp_path: Path) -> None:
    exps = np.exp(case.logits_NK)
    logarithms = np.log(exps / exps.sum(axis=1, keepdims=True)).astype(np.float16)
    file = save_pt(tmp_path / "passt_25.pt", logarithms)
    (found,) = import_logits(case.store, "tau", [file])
    assert found.remarks == ()
    np.testing.assert_array_equal(case.store.read([found.key])[0], logarithms.astype(np.float32))


def test_a_split_without_clips_to_learn_from_is_refused(case: Case, tmp_path: Path) -> None:
    words = refusal(case, save_pt(tmp_path / "passt_10.pt", case.logits_NK))
    assert "corpus tau has no clip to learn in split 10" in words


def recordings_of_ten(n_recordings: int, n_scenes: int) -> LabelledClips:
    scene = np.repeat(np.arange(n_recordings) % n_scenes, 10)
    n = len(scene)
    columns = {
        "clip_id": [f"clip{row}" for row in range(n)],
        "scene": [f"scene{k:02}" for k in scene],
        "recording": [f"recording{row // 10}" for row in range(n)],
        "fold_25": ["fit"] * n,
    }
    return LabelledClips.of("many", pa.table(columns))


def test_random_order_is_refused_and_a_weak_teacher_is_not() -> None:
    clips = recordings_of_ten(200, 10)
    rng = np.random.default_rng(3)
    n = len(clips.labels_N)
    right = np.repeat(rng.random(n // 10) < 0.3, 10)
    guessed = np.where(right, clips.labels_N, np.repeat(rng.integers(0, 10, n // 10), 10))
    weak_NK = 2 * np.eye(10)[guessed]
    kept, _ = align(Path("weak_25.pt"), ForeignLogits(logits_RK=weak_NK), clips, 25)
    np.testing.assert_array_equal(kept, weak_NK)
    # Clips of a recording stay together, as in a list in another order. The accuracy then varies
    # three times as much as with single clips.
    for _ in range(300):
        order = rng.permutation(n // 10)
        mixed = weak_NK.reshape(-1, 10, 10)[order].reshape(n, 10)
        with pytest.raises(UnfitImport, match="misaligned"):
            align(Path("mixed_25.pt"), ForeignLogits(logits_RK=mixed), clips, 25)


def test_clips_need_no_audio_and_are_read_once(case: Case, tmp_path: Path) -> None:
    empty = LogitStore(tmp_path / "other")
    with pytest.raises(CorpusError, match="--root"):
        ensure_clips(empty, "tau", None)
    ensure_clips(empty, "tau", case.root)
    assert empty.read_clips("tau") == case.store.read_clips("tau")
    ensure_clips(empty, "tau", None)
    with pytest.raises(MissingClips):
        import_logits(empty, "demo", [save_pt(tmp_path / "passt_25.pt", case.logits_NK)])


def test_a_list_in_another_order_is_refused_if_there_are_logits(case: Case, tmp_path: Path) -> None:
    file = save_pt(tmp_path / "passt_25.pt", case.logits_NK)
    import_logits(case.store, "tau", [file])
    header, *rows = (case.root / "meta.csv").read_text().splitlines(keepends=True)
    (case.root / "meta.csv").write_text("".join([header, *reversed(rows)]))
    with pytest.raises(ClipsMismatch):
        ensure_clips(case.store, "tau", case.root)
