"""Clips with several labels, or none, in a corpus of one's own."""

import numpy as np
import pytest
import soundfile

from audio.clips import SPLITS
from audio.corpora import read
from audio.errors import CorpusError
from audio.findings import count_clips, count_recordings, describe_gaps

RATE = 8_000
CELLS = ("dog|rain", "dog", "rain", "|")
"""Two classes, together, alone, and neither."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def root(tmp_path):
    for number in range(40):
        soundfile.write(tmp_path / f"{number:02}.wav", np.full(400, 0.1), RATE)
    return tmp_path


def write_table(root, cells=CELLS, column="labels"):
    lines = [f"{number:02}.wav,{cells[number % len(cells)]}" for number in range(40)]
    (root / "clips.csv").write_text("\n".join([f"path,{column}", *lines]) + "\n")
    return read("folder", root)


def test_a_cell_holds_several_labels_or_none_of_the_classes(root):
    corpus = write_table(root)
    assert corpus.scenes == ("dog", "rain")
    assert corpus.column("scene")[:4].tolist() == ["|dog|rain|", "|dog|", "|rain|", "|"]
    assert corpus.truth()[:4].tolist() == [[1, 1], [1, 0], [0, 1], [0, 0]]
    assert count_clips(corpus) == count_recordings(corpus) == {"dog": 20, "rain": 20}
    assert describe_gaps(corpus) == []
    assert (
        corpus.compute_identity()
        == write_table(root, ("rain | dog", "dog", "rain", "|")).compute_identity()
    )


def test_an_empty_cell_is_a_clip_that_only_teaches(root):
    corpus = write_table(root, (*CELLS, ""))
    assert corpus.truth()[-8:].tolist() == [[-1, -1]] * 8
    assert corpus.rows(100, "pool").tolist() == [*range(32, 40)]


def test_what_takes_one_label_a_clip_is_refused_in_words(root):
    with pytest.raises(CorpusError, match="several labels or none, and this takes one label"):
        write_table(root).labels()


def test_a_column_label_means_one_label_whatever_is_in_it(root):
    corpus = write_table(root, ("dog|rain", "cat"), column="label")
    assert corpus.scenes == ("cat", "dog|rain")
    assert not corpus.has_several_labels
    assert corpus.truth().tolist() == corpus.labels().tolist()


def test_a_split_that_does_not_know_a_class_has_no_clips(root):
    # One recording in five is of the owl: a twentieth of the others has none.
    corpus = write_table(root, ("dog", "dog", "dog", "dog|owl"))
    for split in SPLITS:
        inside = corpus.column(f"fold_{split}") == "fit"
        assert not inside.any() or "|dog|owl|" in corpus.column("scene")[inside]
    assert not (corpus.column("fold_5") == "fit").any()


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("dog||rain", "an empty label"),
        ("dog|", "an empty label"),
        ("dog|dog", "the label dog twice"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_line(root, cell, reason):
    with pytest.raises(CorpusError, match=rf"clips.csv, line 2: labels '.*' hold {reason}"):
        write_table(root, (cell, "cat"))


def test_a_class_that_no_training_clip_has_is_refused(root):
    words = [("dog|rain", "test") if n < 10 else ("dog", "train") for n in range(40)]
    lines = [f"{n:02}.wav,{cell},{split}" for n, (cell, split) in enumerate(words)]
    (root / "clips.csv").write_text("\n".join(["path,labels,split", *lines]))
    with pytest.raises(CorpusError, match="class rain has no clip in fit"):
        read("folder", root)
