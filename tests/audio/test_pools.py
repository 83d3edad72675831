import shutil

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch
from corpus_files import write_corpus
from tiny import AUGMENTATION, FRONT_END, RATE

from audio import corpora, waveforms
from audio.clips import POOL, SPLITS, UNLABELLED, Corpus
from audio.corpora import tau
from audio.errors import CorpusError
from audio.feed import Feed
from audio.pools import (
    Pool,
    find_pools,
    list_foreign_pools,
    make_learning_corpus,
    make_pool_corpus,
    refuse_leaks,
    refuse_same_audio,
)

RESPONSES_RL = np.array([[0.5, 0.5, 0.0], [1.0, -0.9, 0.2]], dtype=np.float32)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """57 clips of three scenes; splits 25 and 100."""
    return tau.read(write_corpus(tmp_path_factory.mktemp("corpus") / "tau"))


def write_noise(folder, n_files, seed=0):
    """Write files of noise, of 1 s."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n_files):
        noise = 0.1 * np.random.default_rng([seed, number]).standard_normal(RATE)
        soundfile.write(folder / f"field-{number}.wav", noise, RATE)
    return folder


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A folder of five recordings that nobody labelled."""
    root = write_noise(tmp_path_factory.mktemp("field"), 3)
    write_noise(root / "more" / "deep", 2, seed=1)
    return root


def open_folder(root):
    return corpora.read_pool("folder", root, 1.0)


def list_foreign(root):
    return list_foreign_pools([open_folder(root)])


def refuse_to_open(word):
    raise AssertionError(word)


def test_any_folder_of_sound_is_a_pool_without_labels_in_all_splits(field):
    pool = open_folder(field)
    assert pool.column("file").tolist() == [
        *(f"field-{n}.wav" for n in range(3)),
        *(f"more/deep/field-{n}.wav" for n in range(2)),
    ]
    assert pool.scenes == ()
    assert pool.labels().tolist() == [-1] * 5
    assert all(pool.rows(split, "pool").tolist() == [*range(5)] for split in SPLITS)


def test_a_pools_name_changes_with_its_clips_and_their_files_but_not_with_its_place(
    field, tmp_path
):
    copy = shutil.copytree(field, tmp_path / "copy")
    name = open_folder(field).name
    assert name == open_folder(copy).name
    assert name.startswith("folder_")
    assert len(name) == len("folder_") + 12
    soundfile.write(copy / "field-0.wav", np.zeros(RATE + 7), RATE)
    changed = open_folder(copy).name
    (copy / "field-0.wav").unlink()
    assert len({name, changed, open_folder(copy).name}) == 3


def test_long_recordings_of_a_pool_are_cut_into_clips_of_the_corpus(tmp_path):
    soundfile.write(tmp_path / "hour.wav", np.random.default_rng(0).normal(0, 0.1, 5 * RATE), RATE)
    pool = open_folder(tmp_path)
    assert len(pool) == 5
    assert set(pool.column("recording")) == {"hour"}
    assert waveforms.decode_corpus(pool, RATE).samples_NS.shape == (5, RATE)


def test_a_corpus_with_labels_is_a_pool_without_them(corpus):
    pool = make_pool_corpus(corpus)
    assert set(pool.column("scene")) == {UNLABELLED}
    assert pool.column("clip_id").tolist() == corpus.column("clip_id").tolist()
    assert pool.name.startswith("tau_")


@pytest.mark.parametrize(
    ("root", "reason"),
    [("nothing", "no such folder"), ("empty", "no sound file in it or in its folders")],
)
def test_a_pool_without_sound_is_refused(tmp_path, root, reason):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=reason):
        open_folder(tmp_path / root)


def test_a_pool_of_clips_of_another_length_is_refused_with_the_way_out(corpus):
    with pytest.raises(CorpusError, match="clips of 1 s cannot be a pool for clips of 3 s; name"):
        corpora.read_pool("tau", corpus.root, 3.0)


def test_rest_is_what_a_split_leaves_out_without_recordings_that_judge_in_it(corpus):
    (rest,) = find_pools(corpus, 25, ["rest"], refuse_to_open)
    left_out = (corpus.column("fold_100") != "test") & np.equal(corpus.column("fold_25"), None)
    judging = corpus.column("recording")[corpus.rows(25, "select", "test")]
    expected = left_out & ~np.isin(corpus.column("recording"), judging)
    assert 0 < expected.sum() < left_out.sum()
    assert rest.rows.tolist() == np.flatnonzero(expected).tolist()
    refuse_leaks(corpus, 25, [rest])
    with pytest.raises(CorpusError, match="split 100 of corpus tau .* leaves out none"):
        find_pools(corpus, 100, ["rest"], refuse_to_open)


def test_unlabelled_needs_clips_without_a_label(corpus):
    with pytest.raises(CorpusError, match="has no clip without a label that split 25 may learn"):
        find_pools(corpus, 25, ["unlabelled"], refuse_to_open)


def test_a_pool_named_twice_is_refused(corpus, field, tmp_path):
    copy = shutil.copytree(field, tmp_path / "copy")
    with pytest.raises(CorpusError, match="is there twice, with the same clips"):
        find_pools(corpus, 25, ["a", "b"], {"a": open_folder(field), "b": open_folder(copy)}.get)


@pytest.mark.parametrize("fold", ["select", "test"])
def test_a_pool_with_a_clip_that_judges_is_refused_with_its_name(corpus, fold):
    clip_id = corpus.column("clip_id")[corpus.rows(25, fold)[0]]
    others = corpus.column("clip_id")[corpus.rows(25, "fit")]
    pools = list_foreign_pools([make_pool_corpus(corpus.keep([*others, clip_id]))])
    with pytest.raises(CorpusError, match=rf"clips that judge in split 25 .*: {clip_id} \({fold}"):
        refuse_leaks(corpus, 25, pools)


@pytest.mark.parametrize("fold", ["select", "test"])
def test_a_pool_with_a_recording_that_judges_is_refused_with_its_name(corpus, field, fold):
    recording = corpus.column("recording")[corpus.rows(25, fold)[0]]
    other = open_folder(field)
    place = other.table.column_names.index("recording")
    names = pa.array([recording, *other.table["recording"].to_pylist()[1:]])
    table = other.table.set_column(place, "recording", names)
    pools = list_foreign_pools([make_pool_corpus(Corpus(name="other", root=field, table=table))])
    with pytest.raises(CorpusError, match=rf"recordings that judge .*: {recording} \({fold}\); re"):
        refuse_leaks(corpus, 25, pools)


@pytest.mark.parametrize("fold", ["select", "test"])
def test_a_pool_with_the_audio_of_a_clip_that_judges_is_refused_whatever_its_name(
    corpus, field, tmp_path, fold
):
    root = shutil.copytree(field, tmp_path / "field")
    row = corpus.rows(25, fold)[0]
    shutil.copy(corpus.root / corpus.column("file")[row], root / "innocent.wav")
    pools = list_foreign(root)
    refuse_leaks(corpus, 25, pools)
    for each in (corpus, pools[0].corpus):
        waveforms.decode_corpus(each, RATE)
    twin = rf"innocent = {corpus.column('clip_id')[row]} \({fold}\); remove"
    with pytest.raises(CorpusError, match=twin):
        refuse_same_audio(corpus, 25, pools, RATE)


def test_a_pool_may_have_the_audio_of_fit_and_silence_and_the_first_is_counted(
    corpus, field, tmp_path
):
    root = shutil.copytree(field, tmp_path / "field")
    learnt = corpus.column("file")[corpus.rows(25, "fit")[:2]]
    for number, file in enumerate(learnt):
        shutil.copy(corpus.root / file, root / f"again-{number}.wav")
    soundfile.write(root / "silence.wav", np.zeros(RATE), RATE)
    pools = list_foreign(root)
    for each in (corpus, pools[0].corpus):
        waveforms.decode_corpus(each, RATE)
    assert refuse_same_audio(corpus, 25, pools, RATE) == 2


def test_rest_with_the_audio_of_a_clip_that_judges_is_refused(tmp_path):
    root = write_corpus(tmp_path / "tau")
    corpus = tau.read(root)
    (rest,) = find_pools(corpus, 25, ["rest"], refuse_to_open)
    files = corpus.column("file")
    shutil.copy(root / files[corpus.rows(25, "select")[0]], root / files[rest.rows[0]])
    waveforms.decode_corpus(corpus, RATE)
    with pytest.raises(CorpusError, match="pool rest has the audio of 1 clips that judge"):
        refuse_same_audio(corpus, 25, [rest], RATE)


def test_audio_that_is_not_decoded_is_never_taken_for_other_audio(corpus, tmp_path):
    pools = list_foreign(write_noise(tmp_path / "new", 2, seed=9))
    waveforms.decode_corpus(corpus, RATE)
    with pytest.raises(
        CorpusError, match="2 of 2 clips of corpus folder_.* are not decoded to 8000"
    ):
        refuse_same_audio(corpus, 25, pools, RATE)


@pytest.fixture(scope="module")
def learning(corpus, field):
    """The corpus with its rest, and with a folder of which the clips 1 and 3 take part."""
    (rest,) = find_pools(corpus, 25, ["rest"], refuse_to_open)
    other = open_folder(field)
    return make_learning_corpus(corpus, 25, [rest, Pool(other.name, np.array([1, 3]), other)])


def test_a_learning_corpus_has_its_own_clips_first_and_no_labels_in_its_pools(corpus, learning):
    n = len(corpus)
    assert (len(learning), learning.own, learning.scenes) == (n + 2, corpus, corpus.scenes)
    assert learning.column("row").tolist() == [*range(n + 2)]
    assert learning.column("clip_id")[:n].tolist() == corpus.column("clip_id").tolist()
    rest, _ = learning.pools
    in_pool = learning.rows(25, POOL)
    assert in_pool.tolist() == [*rest.rows, n, n + 1]
    assert set(learning.labels()[in_pool]) == {-1}
    for fold in ("fit", "select", "test"):
        rows = corpus.rows(25, fold)
        assert learning.rows(25, fold).tolist() == rows.tolist()
        assert learning.labels()[rows].tolist() == corpus.labels()[rows].tolist()


def test_a_scene_that_only_a_pool_has_is_refused(corpus):
    buses = np.flatnonzero(corpus.column("scene") == "bus")
    with pytest.raises(CorpusError, match="all clips of bus are in a pool of split 25"):
        make_learning_corpus(corpus, 25, [Pool("rest", buses)])


@pytest.mark.parametrize("view", [0, 3])
def test_each_clip_of_a_pool_is_heard_as_the_pools_own_feed_gives_it(learning, corpus, view):
    def open_feed(of):
        return Feed.open(of, FRONT_END, AUGMENTATION, None, CPU)

    n, other = len(corpus), learning.foreign[0][0]
    rows_B = np.array([n + 1, 4, n, 0, 31])
    together = open_feed(learning).make_waveforms(rows_B, view)
    own = open_feed(corpus).make_waveforms(np.array([4, 0, 31]), view)
    foreign = open_feed(other).make_waveforms(np.array([3, 1]), view)
    # Batched transforms may sum in another order.
    expected = torch.stack([foreign[0], own[0], foreign[1], own[1], own[2]])
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)
    alone = open_feed(learning).make_waveforms(np.array([4, 0, 31]), view)
    torch.testing.assert_close(alone, own, rtol=0, atol=0)


def test_maps_of_other_clip_lengths_are_refused(learning, corpus):
    maps = [waveforms.Waveforms(np.zeros((57, n), np.int16), RATE) for n in (RATE, RATE - 1)]
    with pytest.raises(ValueError, match=r"clips of \[7999, 8000\] samples"):
        Feed(learning, maps, FRONT_END, AUGMENTATION, RESPONSES_RL, CPU)
