import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from audio import findings
from audio.clips import Corpus, build_clips_table
from jobs.plan.next_steps import FEW_CLIPS, suggest_students, suggest_teachers
from logit_store import LogitStore

RATE = 8_000


def noise(seed, duration_s=0.5):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * RATE))


@pytest.fixture
def root(tmp_path):
    """A folder with two classes, the first of six files, the second of three."""
    root = tmp_path / "own"
    for seed, name in enumerate([*(f"cat/{i}" for i in range(6)), *(f"dog/{i}" for i in range(3))]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / f"{name}.wav", noise(seed), RATE, subtype="PCM_16")
    return root


@pytest.fixture
def prepare(called, root, tmp_path):
    """Runs the command on the folder; returns what it printed on one line with single spaces."""

    def run(*options, where=root, code=0):
        command = ("jobs/prepare.py", "--corpus", "folder", "--root", where)
        printed = called(*command, "--store", tmp_path / "store", *options, code=code)
        return " ".join(printed.split())

    return run


def test_prepare_shows_what_is_in_the_files(prepare, root):
    stereo = np.stack([noise(77), noise(78)], axis=1)
    soundfile.write(root / "cat" / "8.flac", np.repeat(stereo, 2, axis=0), 2 * RATE)
    said = prepare()
    assert "10 of 2 classes, in 10 files of 10 recordings" in said
    assert "cat 7 7 dog 3 3" in said
    assert "imbalance 2.3 (cat 7 clips, dog 3)" in said
    assert "8,000 Hz (9), 16,000 Hz (1); decoded to 32,000 Hz" in said
    assert "channels 1 (9), 2 (1); decoded to their mean" in said
    assert "lengths 0.50 to 0.50 s, median 0.50 s a clip lasts 0.5 s " in said
    assert "clipping none silence none duplicates none" in said
    assert "split fit select test" in said
    assert "each file counts as a recording" in said


def test_nothing_is_wider_than_80_columns_but_the_next_command(called, root, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = ("jobs/prepare.py", "--corpus", "folder", "--root", root, "--store", tmp_path / "s")
    lines = called(*command).splitlines()
    paths = [line for line in lines if line.startswith(("next: ", "  or: ", "/"))]
    assert len(paths) == 3
    assert max(len(line) for line in lines if line not in paths) <= 80


def test_the_next_commands_are_a_probe_for_few_clips_and_the_plan_of_all_splits_that_exist(
    prepare, root, tmp_path
):
    said = prepare()
    command = f"python jobs/teachers.py --corpus folder --root {root} --store {tmp_path / 'store'}"
    probe = f"next: {command} --recipes probe:aisfx --splits 100"
    assert said.endswith(f"{probe} or: {command} --splits 100 --dry-run")


def test_a_table_may_be_the_root_and_have_any_name(prepare, root):
    listed = [file.relative_to(root) for file in sorted(root.glob("*/*.wav"))]
    table = root / "autumn.csv"
    table.write_text("path,label\n" + "".join(f"{each},{each.parent}\n" for each in listed))
    assert "9 of 2 classes, in 9 files" in prepare(where=table)


def test_many_clips_or_a_scene_that_fit_lacks_suggest_no_probe():
    folds = {100: ["fit", "fit", "select", "test"]}
    scenes, names = ["cat", "dog", "cat", "cat"], list("abcd")
    few = Corpus("folder", Path(), build_clips_table(names, names, scenes, names, folds))
    (probe, _) = suggest_teachers(few)
    assert probe == ["--recipes", "probe:aisfx", "--splits", "100"]
    lacking = build_clips_table(names, names, ["cat", "cat", "dog", "cat"], names, folds)
    assert [words[-1] for words in suggest_teachers(replace(few, table=lacking))] == ["--dry-run"]
    many = replace(few, table=pa.concat_tables([few.table] * FEW_CLIPS))
    assert [words[-1] for words in suggest_teachers(many)] == ["--dry-run"]


def test_students_of_few_clips_learn_in_small_batches_and_from_clips_without_a_label():
    folds = {100: ["fit", "select", "test", "pool"], 50: ["fit", "select", "test", None]}
    names = list("abcd")
    clips = build_clips_table(names, names, ["cat", "cat", "cat", ""], names, folds)
    small = ["--recipes", "tiny_isotropic"]
    assert suggest_students(clips, [100]) == [*small, "--pool", "unlabelled"]
    assert suggest_students(clips, [50, 100]) == small
    assert suggest_students(pa.concat_tables([clips] * FEW_CLIPS), [50]) == []


def test_a_corpus_without_a_split_to_learn_from_is_an_error_that_says_what_is_needed(
    prepare, root, tmp_path
):
    for number in range(2, 6):
        (root / "cat" / f"{number}.wav").unlink()
    (root / "dog" / "2.wav").unlink()
    said = prepare(code=1)
    assert "error: no split can be learnt from: split 100 has no clip in select; a class" in said
    assert (
        "needs 3 recordings, one for each of fit, select and test; fewer have cat (2), dog" in said
    )
    assert "next:" not in said
    assert not (tmp_path / "store").exists()


def test_classes_that_a_fold_lacks_are_named(prepare, root):
    (root / "dog" / "2.wav").unlink()
    said = prepare()
    assert "WARNING: split 100 has no clip of dog in select; a class needs 3 recordings" in said
    assert "fewer have dog (2)" in said
    assert said.endswith("--splits 100 --dry-run")


def test_only_splits_with_all_folds_are_offered():
    folds = {
        100: ["fit", "select", "test"],
        50: ["fit", None, "test"],
        25: [None, "select", "test"],
    }
    table = build_clips_table(
        ["1.wav", "2.wav", "3.wav"], list("abc"), ["cat"] * 3, list("123"), folds
    )
    corpus = Corpus(name="folder", root=Path(), table=table)
    assert findings.find_complete_splits(corpus) == [100]


def test_odd_names_and_hidden_files_in_a_folder(prepare, root):
    (root / "cat" / "._0.wav").write_bytes(b"hidden")
    assert "error" not in prepare()
    (root / "cat" / "0.wav").rename(root / "cat" / os.fsdecode(b"caf\xe9.wav"))
    said = prepare(code=1)
    assert "caf\\xe9.wav: the name is not UTF-8; rename it" in said


def test_files_of_several_lengths_become_clips_of_one(prepare, root, tmp_path):
    soundfile.write(root / "dog" / "long.wav", noise(50, 1.5), RATE)
    soundfile.write(root / "dog" / "short.wav", noise(51, 0.2), RATE)
    said = prepare()
    assert "lengths 0.20 to 1.50 s, median 0.50 s" in said
    assert "0.5 s; 1 shorter files are repeated, 1 longer files are cut into 3 clips" in said
    ids = LogitStore(tmp_path / "store").read_clips("folder")["clip_id"].to_pylist()
    assert ids[-4:] == ["dog/long@0.000", "dog/long@0.500", "dog/long@1.000", "dog/short"]


def test_clipping_and_silence_are_named(prepare, root):
    soundfile.write(root / "cat" / "loud.wav", np.clip(20 * noise(3), -1, 1), RATE)
    soundfile.write(root / "dog" / "dead.wav", np.zeros(RATE // 2), RATE)
    said = prepare()
    assert "clipping 1 with 0.1% or more of their samples at full scale: cat/loud.wav (" in said
    assert "silence 1 below -80 dB of full scale: dog/dead.wav (one value throughout)" in said


def write_csv(root, lines):
    (root / "clips.csv").write_text("\n".join(["path,label,recording,split", *lines]) + "\n")


def listed(root, second_recording, second_split):
    """Write a table of six files; the arguments give recordings and splits of cat/0.wav and its copy."""
    shutil.copy(root / "cat" / "0.wav", root / "cat" / "copy.wav")
    return [
        "cat/0.wav,cat,a,train",
        f"cat/copy.wav,cat,{second_recording},{second_split}",
        "cat/1.wav,cat,c,train",
        "cat/2.wav,cat,d,test",
        "dog/0.wav,dog,e,train",
        "dog/1.wav,dog,f,train",
        "dog/2.wav,dog,g,test",
    ]


def test_the_same_audio_in_two_folds_is_an_error_that_names_both_files(prepare, root, tmp_path):
    write_csv(root, listed(root, "b", "test"))
    said = prepare(code=1)
    assert "error: the same audio is in several folds" in said
    assert "cat/copy.wav (test)" in said
    assert "split 100: cat/0.wav (" in said
    assert "Remove one of each, or write a clips.csv" in said
    assert not (tmp_path / "store").exists()


def test_the_same_audio_within_a_fold_is_said(prepare, root):
    write_csv(root, listed(root, "a", "train"))
    assert "duplicates 1 times the same audio: cat/0.wav = cat/copy.wav" in prepare()


def test_published_corpora_are_taken_as_they_are_split(commands, called, tmp_path):
    root = tmp_path / "tau"
    shutil.copytree(commands.corpus, root)
    (test,) = (root / "audio").glob("bus-*5-0-0-a.wav")
    (learnt,) = (root / "audio").glob("bus-*0-0-0-a.wav")
    shutil.copy(learnt, test)
    command = ("jobs/prepare.py", "--corpus", "tau", "--root", root, "--store", tmp_path / "store")
    said = called(*command)
    assert "WARNING: the same audio is in several folds" in said
    assert "57 clips of 3 scenes" in said


def test_classes_that_a_store_does_not_tell_apart_are_an_error(prepare, root):
    (root / "dog").rename(root / "Cat")
    assert "error: clips of folder: scene 'cat' has the name of scene 'Cat'" in prepare(code=1)


def test_a_store_with_other_clips_is_refused(prepare, root, tmp_path):
    prepare()
    other = tmp_path / "other"
    for number in range(3):
        for scene in ("eel", "fox"):
            (other / scene).mkdir(parents=True, exist_ok=True)
            soundfile.write(other / scene / f"{number}.wav", noise(number), RATE)
    assert "none of its 6 clips is among those of" in prepare(where=other, code=1)


def test_clips_without_a_label_are_counted_apart_and_are_no_class(prepare, root):
    for number in range(4):
        (root / "unlabelled" / "may").mkdir(parents=True, exist_ok=True)
        soundfile.write(root / "unlabelled" / "may" / f"{number}.wav", noise(40 + number), RATE)
    shutil.copy(root / "cat" / "5.wav", root / "unlabelled" / "copy.wav")
    said = prepare("--dry-run")
    assert "14 clips of 2 scenes" in said
    said = prepare()
    assert "14 of 2 classes, in 14 files of 14 recordings; 5 of them without a label" in said
    assert "imbalance 2.0 (cat 6 clips, dog 3)" in said
    assert "duplicates 1 times the same audio: cat/5.wav = unlabelled/copy.wav" in said
    assert "split fit select test pool" in said
    assert "5 (5)" in said
    assert "pool: clips without a label, which teach students (jobs/students.py --pool unl" in said
    assert said.endswith("--splits 100 --dry-run")


@pytest.mark.parametrize("fold", ["select", "test"])
def test_the_audio_of_a_clip_that_judges_may_not_be_among_those_without_a_label(
    prepare, root, tmp_path, fold
):
    prepare()
    clips = LogitStore(tmp_path / "store").read_clips("folder").to_pylist()
    judging = next(clip["clip_id"] for clip in clips if clip["fold_100"] == fold)
    (root / "unlabelled").mkdir()
    shutil.copy(root / f"{judging}.wav", root / "unlabelled" / "innocent.wav")
    shutil.rmtree(tmp_path / "store")
    said = prepare(code=1)
    assert "error: the same audio is in several folds" in said
    assert f"{judging}.wav ({fold}) and unlabelled/innocent.wav (pool)" in said
