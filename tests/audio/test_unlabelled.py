"""Clips without a label in a corpus of one's own: they take no part in anything but the pool."""

import numpy as np
import pytest
import soundfile

from audio.clips import SPLITS, UNLABELLED
from audio.corpora import read
from audio.errors import CorpusError

RATE = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(file, duration_s=0.05):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.full(round(duration_s * RATE), 0.1), RATE)


@pytest.fixture
def root(tmp_path):
    """Two classes of forty recordings of 0.05 s."""
    for scene in ("cat", "dog"):
        for number in range(40):
            write(tmp_path / "own" / scene / f"{number:02}.wav")
    return tmp_path / "own"


def list_labelled(corpus):
    columns = [corpus.column(name) for name in ("row", "clip_id", "scene")]
    folds = [corpus.column(f"fold_{split}") for split in SPLITS]
    return [row for row in zip(*columns, *folds, strict=True) if row[2] != UNLABELLED]


@pytest.mark.parametrize("places", [("a.wav", "b.wav"), ("monday/a.wav", "tuesday/deep/a.wav")])
def test_a_folder_unlabelled_adds_clips_that_are_in_the_pool_of_all_splits(root, places):
    before = read("folder", root)
    for place in places:
        write(root / "unlabelled" / place)
    corpus = read("folder", root)
    assert corpus.scenes == ("cat", "dog")
    assert corpus.labels().tolist() == [0] * 40 + [1] * 40 + [-1] * 2
    assert corpus.find_unlabelled().tolist() == [False] * 80 + [True] * 2
    assert corpus.column("file")[80:].tolist() == [f"unlabelled/{place}" for place in places]
    for split in SPLITS:
        assert corpus.rows(split, "pool").tolist() == [80, 81]
    # Nothing that was known changes: rows decide about views, folds about everything.
    assert list_labelled(corpus) == list_labelled(before)
    assert corpus.compute_identity() != before.compute_identity()


def test_labelled_clips_alone_decide_how_long_a_clip_is(root):
    for number in range(200):
        write(root / "unlabelled" / f"{number}.wav", 0.02)
    write(root / "unlabelled" / "day.wav", 0.5)
    corpus = read("folder", root)
    assert corpus.clip_duration_s == 0.05
    assert list(corpus.column("recording")).count("unlabelled/day") == 10


def test_test_and_train_may_have_unlabelled_beside_them_but_not_within(root):
    for number in range(3):
        for part in ("train", "test"):
            for scene in ("cat", "dog"):
                write(root.parent / "parts" / part / scene / f"{number}.wav")
    parts = root.parent / "parts"
    write(parts / "unlabelled" / "a.wav")
    corpus = read("folder", parts)
    assert corpus.column("file")[corpus.rows(100, "pool")].tolist() == ["unlabelled/a.wav"]
    write(parts / "train" / "unlabelled" / "a.wav")
    with pytest.raises(CorpusError, match=f"train/unlabelled: clips without .* move it to {parts}"):
        read("folder", parts)


def write_csv(root, header, lines):
    (root / "clips.csv").write_text("\n".join([header, *lines]) + "\n")


def list_files(root):
    return [f"{scene}/{number:02}.wav" for scene in ("cat", "dog") for number in range(6)]


def test_lines_without_a_label_are_in_the_pool_after_all_others(root):
    files = list_files(root)
    labels = ["", *["cat"] * 5, "", *["dog"] * 5]
    write_csv(root, "path,label", map(",".join, zip(files, labels, strict=True)))
    corpus = read("folder", root)
    assert corpus.column("file")[10:].tolist() == ["cat/00.wav", "dog/00.wav"]
    assert corpus.rows(100, "pool").tolist() == [10, 11]
    assert corpus.scenes == ("cat", "dog")


@pytest.mark.parametrize("word", ["", "pool", "Pool"])
def test_a_line_without_a_label_has_no_split(root, word):
    files = list_files(root)
    labels = ["", *["cat"] * 5, *["dog"] * 6]
    splits = [word, "fit", "fit", "select", "test", "test"] + ["fit", "fit", "select", "test"] * 2
    lines = map(",".join, zip(files, labels, splits[:12], strict=True))
    write_csv(root, "path,label,split", lines)
    corpus = read("folder", root)
    assert corpus.column("fold_100")[-1] == "pool"
    assert len(corpus.rows(100, "fit")) == 6


@pytest.mark.parametrize("word", ["test", "fit", "x"])
def test_a_line_without_a_label_cannot_be_in_another_split(root, word):
    write_csv(root, "path,label,split", [f"cat/00.wav,,{word}", "cat/01.wav,cat,test"])
    reason = f"line 2: split '{word}' without a label, expected a label, or no split"
    with pytest.raises(CorpusError, match=reason):
        read("folder", root)


def test_clips_of_a_recording_that_judges_are_in_no_pool(root):
    files = list_files(root)
    labels = ["cat", "cat", "", "cat", "cat", "", *["dog"] * 6]
    recordings = ["a", "b", "b", "c", "d", "d", *"efghij"]
    splits = ["fit", "select", "", "test", "fit", "", "fit", "select", "test", "fit", "fit", "fit"]
    rows = zip(files, labels, recordings, splits, strict=True)
    write_csv(root, "path,label,recording,split", map(",".join, rows))
    corpus = read("folder", root)
    folds = dict(zip(corpus.column("file"), corpus.column("fold_100"), strict=True))
    assert folds["cat/02.wav"] is None
    assert folds["cat/05.wav"] == "pool"


def test_without_any_label_there_is_no_corpus(root):
    write_csv(root, "path,label", ["cat/00.wav,", "cat/01.wav,"])
    with pytest.raises(CorpusError, match="no clip has a label, expected two classes or more"):
        read("folder", root)


def test_a_table_can_say_what_recordings_come_from_and_drawn_folds_keep_that_together(root):
    files = [f"{scene}/{number:02}.wav" for scene in ("cat", "dog") for number in range(40)]
    sources = [f"{file[:3]}-{int(file[4:6]) // 4}" for file in files]
    sources[-1] = ""
    rows = zip(files, [file[:3] for file in files], sources, strict=True)
    write_csv(root, "path,label,source", map(",".join, rows))
    corpus = read("folder", root)
    assert corpus.column("source")[:5].tolist() == ["cat-0"] * 4 + ["cat-1"]
    assert corpus.column("source")[-1] == "dog/39"
    assert "source" not in corpus.clips_table().column_names
    for split in (50, 100):
        pairs = set(zip(corpus.column("source"), corpus.column(f"fold_{split}"), strict=True))
        assert len(pairs) == len(set(corpus.column("source")))


def test_a_recording_of_two_sources_is_refused(root):
    lines = ["cat/00.wav,cat,a,x", "cat/01.wav,cat,b,y", "dog/00.wav,dog,a,y"]
    write_csv(root, "path,label,recording,source", lines)
    with pytest.raises(
        CorpusError, match=r"line 4: recording a comes from source y, but in line 2"
    ):
        read("folder", root)
