import logging
import os
import shutil

import numpy as np
import pytest
import soundfile

from audio import waveforms
from audio.clips import SPLITS
from audio.corpora import folder, read
from audio.errors import BrokenAudio, CorpusError
from logit_store import LogitStore

RATE = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def write(file, duration_s=0.25):
    file.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(duration_s * RATE))
    soundfile.write(file, noise, RATE)
    return file


def fill(root, sizes, suffix=".wav"):
    """Make files for each class, all but the first empty: mostly their names are read."""
    for scene, size in sizes.items():
        first = write(root / scene / f"000{suffix}")
        for number in range(1, size):
            first.with_name(f"{number:03}{suffix}").touch()
    return root


@pytest.fixture
def root(tmp_path):
    return fill(tmp_path / "own", {"cat": 100, "dog": 60})


def names(corpus, split, *folds):
    return set(corpus.column("clip_id")[corpus.rows(split, *folds)])


def test_the_class_is_the_folder_and_the_order_is_that_of_the_names(root):
    corpus = read("folder", root)
    files = corpus.column("file").tolist()
    assert files == sorted(files)
    assert corpus.scenes == ("cat", "dog")
    assert corpus.column("clip_id")[0] == "cat/000"
    assert corpus.column("recording").tolist() == corpus.column("clip_id").tolist()
    assert corpus.column("scene").tolist() == [file.split("/")[0] for file in files]


def test_a_fifth_of_each_class_is_test(root):
    corpus = read("folder", root)
    test = corpus.column("scene")[corpus.rows(100, "test")].tolist()
    assert (test.count("cat"), test.count("dog")) == (20, 12)
    assert all(names(corpus, split, "test") == names(corpus, 100, "test") for split in SPLITS[1:])


def test_splits_hold_their_share_of_each_class_and_are_nested(root):
    corpus = read("folder", root)
    inside = set()
    for split, cats, dogs in ((5, 4, 2), (10, 8, 5), (25, 20, 12), (50, 40, 24), (100, 80, 48)):
        rows = corpus.rows(split, "fit", "select")
        scenes = corpus.column("scene")[rows].tolist()
        assert (scenes.count("cat"), scenes.count("dog")) == (cats, dogs)
        assert inside <= names(corpus, split, "fit", "select")
        assert set(corpus.column("scene")[corpus.rows(split, "select")]) == {"cat", "dog"}
        inside = names(corpus, split, "fit", "select")
    assert not inside & names(corpus, 100, "test")
    assert len(inside) == 128


def test_a_small_split_is_not_all_select_in_a_larger_one(root):
    corpus = read("folder", root)
    small = names(corpus, 10, "fit", "select")
    # 13 of 128 clips; 15 % of them are expected in `select` of the large split.
    assert len(small & names(corpus, 100, "select")) <= len(small) / 2


def test_a_split_with_one_recording_of_a_class_has_no_clips(tmp_path):
    corpus = read("folder", fill(tmp_path, {"cat": 100, "dog": 20}))
    # 16 dogs are training clips: 5 % of them are 0.8 and 10 % are 1.6, rounded to 2.
    with pytest.raises(CorpusError, match=r"split 5; .* such clips: 10, 25, 50, 100$"):
        corpus.rows(5, "fit")
    assert len(corpus.rows(10, "fit", "select")) == 10


def test_a_new_file_changes_few_folds(root):
    before = names(read("folder", root), 100, "test")
    (root / "cat" / "new.wav").touch()
    after = names(read("folder", root), 100, "test")
    assert len(before ^ after) <= 2  # one more may be drawn, and displace another


def test_folders_may_define_the_test_clips(tmp_path):
    fill(tmp_path / "train", {"cat": 10, "dog": 10})
    fill(tmp_path / "test", {"cat": 3, "dog": 4})
    corpus = read("folder", tmp_path)
    files = corpus.column("file")
    assert {file.split("/")[0] for file in files[corpus.rows(100, "test")]} == {"test"}
    assert {file.split("/")[0] for file in files[corpus.rows(100, "fit", "select")]} == {"train"}
    assert len(corpus.rows(100, "fit", "select")) == 20
    assert files.tolist() == sorted(files.tolist())


def test_a_class_may_be_called_train(tmp_path):
    assert read("folder", fill(tmp_path, {"plane": 5, "train": 5})).scenes == ("plane", "train")


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".WAV"])
def test_all_formats_of_libsndfile_are_decoded(tmp_path, suffix):
    for name in ("cat/1", "cat/2", "dog/1", "dog/2"):
        write(tmp_path / f"{name}{suffix}")
    corpus = read("folder", tmp_path)
    decoded = waveforms.decode_corpus(corpus, 16_000, cache=tmp_path / "cache", threads=1)
    assert corpus.clip_duration_s == pytest.approx(0.25, rel=0.01)
    assert decoded.samples_NS.shape == (4, round(16_000 * corpus.clip_duration_s))
    assert (np.abs(decoded.samples_NS).max(axis=1) > 1000).all()  # noise of 0.1 is decoded as noise


def test_the_identity_of_a_corpus_of_equal_durations_never_changes(tmp_path):
    # As computed by version 0.1.0; stores name their members by it.
    for part, scene, size in (("train", "cat", 10), ("train", "dog", 10), ("test", "cat", 3)):
        fill(tmp_path / part, {scene: size})
    fill(tmp_path / "test", {"dog": 4})
    known = "12829a6b0f578895488abd9af2fbe8ff9c6786e506273958a9951311e1c4c026"
    assert read("folder", tmp_path).compute_identity() == known


def test_a_broken_first_file_is_left_to_the_decoder(root):
    (root / "cat" / "000.wav").write_bytes(b"not audio")
    assert read("folder", root).clip_duration_s == 0.25


def test_the_clips_fit_into_a_store(root, tmp_path):
    corpus = read("folder", root)
    store = LogitStore(tmp_path / "store")
    store.write_clips(corpus.name, corpus.clips_table())
    assert store.read_clips("folder")["city"].unique().to_pylist() == ["unknown"]


def test_hidden_and_other_files_are_skipped(root, caplog):
    expected = read("folder", root).compute_identity()
    (root / "cat" / ".000.wav").touch()
    (root / ".cache").mkdir()
    (root / "README.md").write_text("mine")
    (root / "dog" / "notes.txt").write_text("loud")
    with caplog.at_level(logging.WARNING):
        assert read("folder", root).compute_identity() == expected
    assert "notes.txt: no audio file, skipped (1 in all)" in caplog.text


def test_what_is_no_regular_file_is_a_broken_clip(root):
    shutil.rmtree(root)
    for scene in ("cat", "dog"):
        for number in range(3):
            write(root / scene / f"{number}.wav")
    os.mkfifo(root / "cat" / "3.wav")
    (root / "dog" / "3.wav").symlink_to(root / "nowhere.wav")
    with pytest.raises(BrokenAudio) as raised:
        waveforms.decode_corpus(read("folder", root), RATE)
    assert {clip.file: clip.reason for clip in raised.value.broken} == {
        "cat/3.wav": "is no regular file, but a folder, pipe, socket or device; remove it",
        "dog/3.wav": "No such file or directory",
    }


def foreign_name(root):
    (root / "cat" / "000.wav").rename(root / "cat" / os.fsdecode(b"caf\xe9.wav"))


def foreign_class(root):
    (root / "cat").rename(root / os.fsdecode(b"caf\xe9"))


def missing(root):
    shutil.rmtree(root)


def hollow(root):
    for each in root.iterdir():
        shutil.rmtree(each)


def empty_class(root):
    (root / "bird").mkdir()


def silent_class(root):
    (root / "bird").mkdir()
    (root / "bird" / "song.txt").write_text("tweet")


def one_class(root):
    shutil.rmtree(root / "cat")


def nested(root):
    (root / "cat" / "lion").mkdir()


def beside(root):
    (root / "x.wav").touch()


def unreadable(root):
    for scene in ("cat", "dog"):
        (root / scene / "000.wav").write_bytes(b"")


def twins(root):
    (root / "cat" / "000.flac").touch()


def half_divided(root):
    (root / "test").mkdir()
    (root / "cat").rename(root / "test" / "cat")


def lone_class(root):
    for part in ("train", "test"):
        fill(root / part, {"cat": 3, "dog": 3} if part == "train" else {"cat": 3})
    for scene in ("cat", "dog"):
        shutil.rmtree(root / scene)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (missing, "own: no such folder; expected one that holds a folder per class"),
        (hollow, "own: no class folder; expected"),
        (empty_class, r"bird: no audio in this class \(\.aif, .*\.wav\)"),
        (silent_class, r"bird: no audio in this class"),
        (one_class, "dog is its only class, expected two or more"),
        (nested, "lion: a folder within a class; put its files into .*cat itself"),
        (beside, r"x\.wav lies next to the class folders"),
        (unreadable, r"cat/000\.wav: cannot be read as audio, nor can any other of the 160"),
        (twins, r"cat/000\.flac and cat/000\.wav differ only in their suffix"),
        (foreign_name, r"cat/caf\\xe9\.wav: the name is not UTF-8; rename it"),
        (foreign_class, r"own/caf\\xe9: the name is not UTF-8; rename it"),
        (half_divided, "own: holds dog, test and test holds folders; expected train and test"),
        (lone_class, r"class dog is in train, but not in test \(1 in all"),
    ],
)
def test_a_wrong_folder_is_refused_with_the_reason(root, spoil, reason):
    spoil(root)
    with pytest.raises(CorpusError, match=reason):
        folder.read(root)
