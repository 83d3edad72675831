import numpy as np
import pytest

from audio.clips import assign_folds
from audio.corpora import demo, tau
from audio.errors import CorpusError


@pytest.fixture(scope="module")
def corpus():
    return demo.read()


def test_the_demo_corpus_has_765_clips_of_10_scenes_on_9_devices(corpus):
    assert len(corpus) == 765
    assert len(corpus.scenes) == 10
    assert len(set(corpus.column("recording_device"))) == 9


def test_labels_number_the_scenes_in_alphabetical_order(corpus):
    labels_N = corpus.labels()
    assert corpus.scenes == tuple(sorted(corpus.scenes))
    assert [corpus.scenes[label] for label in labels_N] == corpus.column("scene").tolist()


@pytest.mark.parametrize("split", [5, 10, 25, 50, 100])
def test_no_recording_is_in_two_folds(corpus, split):
    recordings = corpus.column("recording")
    folds = [set(recordings[corpus.rows(split, fold)]) for fold in ("fit", "select", "test")]
    assert not folds[0] & folds[1]
    assert not folds[0] & folds[2]
    assert not folds[1] & folds[2]


def test_select_gets_about_15_percent_of_the_recordings_and_every_scene_keeps_some():
    rng = np.random.default_rng(0)
    recordings = np.repeat([f"lyon-{i}" for i in range(400)], 10)
    scenes = np.repeat([f"scene{i % 4}" for i in range(400)], 10)
    in_split, in_test = rng.random(4000) < 0.9, np.zeros(4000, dtype=bool)
    folds = np.array(assign_folds(scenes, recordings, in_split, in_test), dtype=object)
    selected = len(set(recordings[folds == "select"]))
    assert selected == 60  # 15 of the 100 of each scene
    assert set(scenes[folds == "fit"]) == set(scenes[folds == "select"]) == set(scenes)


def test_the_only_recording_of_a_scene_is_fit():
    scenes = np.array(["bus", "bus", "park", "park"])
    recordings = np.array(["lyon-1", "lyon-1", "lyon-2", "lyon-3"])
    folds = assign_folds(scenes, recordings, np.ones(4, dtype=bool), np.zeros(4, dtype=bool))
    assert folds[:2] == ["fit", "fit"]
    assert set(folds[2:]) == {"fit", "select"}


def test_folds_do_not_depend_on_the_order_of_the_clips():
    rng = np.random.default_rng(1)
    scenes = np.repeat(["bus", "park"], 50)
    recordings = np.array([f"lyon-{i // 5}" for i in range(100)])
    everything, nothing = np.ones(100, dtype=bool), np.zeros(100, dtype=bool)
    order = rng.permutation(100)
    straight = np.array(assign_folds(scenes, recordings, everything, nothing))
    shuffled = np.array(assign_folds(scenes[order], recordings[order], everything, nothing))
    np.testing.assert_array_equal(straight[order], shuffled)


def test_a_split_without_clips_is_refused_by_name(corpus):
    with pytest.raises(CorpusError, match="no clip in fold fit of split 5"):
        corpus.keep(corpus.column("clip_id")[corpus.rows(5, "test")]).rows(5, "fit")


def test_keeping_some_clips_renumbers_the_rows_and_changes_the_identity(corpus):
    kept = corpus.keep(corpus.column("clip_id")[::2])
    assert kept.column("row").tolist() == list(range(383))
    assert kept.column("clip_id").tolist() == corpus.column("clip_id")[::2].tolist()
    assert kept.compute_identity() != corpus.compute_identity()
    assert corpus.keep(corpus.column("clip_id")).compute_identity() == corpus.compute_identity()


def test_the_official_split_100_is_the_2020_training_list_cut_into_clips_of_1_s():
    _, split100 = tau._build_official_split100()
    devices = [
        name.removesuffix(".wav").rsplit("-", 1)[1] for name in split100["filename"].to_pylist()
    ]
    counts = {device: devices.count(device) for device in set(devices)}
    # Published counts of fold1_train.csv of TAU 2022 Mobile.
    assert counts == {"a": 102150, "b": 7490, "c": 7480, "s1": 7500, "s2": 7500, "s3": 7500}


@pytest.mark.parametrize(("name", "n"), [("split5", 6980), ("split25", 34900), ("test", 29680)])
def test_the_official_lists_are_part_of_the_project(name, n):
    table = tau.read_table(tau.OFFICIAL_LISTS / f"{name}.csv.gz", tau.LIST_COLUMNS)
    assert len(table) == n


def test_the_official_splits_are_nested_in_split_100():
    whole = set(tau._build_official_split100()[1]["filename"].to_pylist())
    for name in ("split5", "split10", "split25", "split50"):
        table = tau.read_table(tau.OFFICIAL_LISTS / f"{name}.csv.gz", tau.LIST_COLUMNS)
        assert set(table["filename"].to_pylist()) <= whole
