"""`jobs/teachers.py --pool CORPUS:ROOT`: teachers predict clips without labels of another corpus."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from audio.errors import CorpusError
from jobs.plan.provision import prepare_teachers
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.worker.where import PoolAt, open_pool, open_pools, parse_pool_word
from logit_store import LogitStore
from terminal.console import UserError
from training import list_view_keys

RATE = 32_000
CPU = torch.device("cpu")


def write_noise(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, 0.1 * np.random.default_rng(seed).standard_normal(RATE // 2), RATE)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with two classes of eight files, and two without a label."""
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    for number in range(16):
        write_noise(tmp_path / "own" / ("cat", "dog")[number % 2] / f"{number}.wav", number)
    for number in range(2):
        write_noise(tmp_path / "own" / "unlabelled" / f"{number}.wav", 50 + number)
    return tmp_path / "own"


@pytest.fixture
def field(tmp_path):
    """A folder of five recordings that nobody labelled."""
    for number in range(5):
        write_noise(tmp_path / "field" / f"day-{number}.wav", 100 + number)
    return tmp_path / "field"


@pytest.fixture
def options(root, tmp_path):
    return TeachersOptions(
        corpus="folder",
        root=str(root),
        store=str(tmp_path / "store"),
        recipes=("demo_cpr",),
        splits=(100,),
        max_steps=4,
    )


def carry_out(options):
    """Do what is missing, and return the plan and the epochs that were learnt."""
    store = options.open_store()
    planned = plan_teachers(options, options.open_corpus(store), store)
    missing = planned.find_missing()
    prepare_teachers(planned, missing)
    epochs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.worker.train._print_epochs", lambda name: epochs.append)
        for task in missing:
            task.work.run_on_device(CPU)
    assert not planned.find_missing()
    return planned, epochs


def test_a_trained_teacher_only_predicts_a_pool_that_is_named_later_and_its_views(options, field):
    _, learnt = carry_out(options)
    assert len(learnt) == 1
    planned, learnt = carry_out(replace(options, pool=(f"folder:{field}",), views=2))
    assert learnt == []
    (task,), (pool,) = planned.tasks, planned.pools.values()
    store, key = LogitStore(options.store), task.keys[0]
    of_pool = replace(key, corpus=pool.name)
    assert task.keys == (*list_view_keys(key, 2), *list_view_keys(of_pool, 2))
    logits_MNK = store.read(list_view_keys(of_pool, 2))
    assert logits_MNK.shape == (2, 5, 2)
    assert (logits_MNK[0] != logits_MNK[1]).any()
    footer = store.read_footer(of_pool)
    assert (footer.classes, footer.scores) == (("cat", "dog"), ())
    assert (footer.record["pool"], footer.record["learnt_corpus"]) == (pool.name, "folder")
    assert store.read([key]).shape == (1, 18, 2)


def test_a_pool_is_what_its_teacher_hears_of_the_same_clips_in_its_own_corpus(options, root, field):
    # The two clips without a label are clips of the corpus, and of a pool with copies of them.
    shutil.rmtree(field)
    for number in range(2):
        field.mkdir(exist_ok=True)
        shutil.copy(root / "unlabelled" / f"{number}.wav", field / f"copy-{number}.wav")
    planned, _ = carry_out(replace(options, pool=(f"folder:{field}",)))
    key, of_pool = planned.tasks[0].keys
    store = LogitStore(options.store)
    known_NK, heard_NK = store.read([key])[0, -2:], store.read([of_pool])[0]
    assert known_NK.any()
    # Batches of other sizes may sum in another order, and float16 rounds.
    np.testing.assert_allclose(known_NK, heard_NK, rtol=1e-3, atol=1e-3)


def test_a_pool_with_a_clip_of_test_is_refused_before_anything_runs(options, root, tmp_path):
    whole = replace(options, pool=(f"folder:{shutil.copytree(root, tmp_path / 'copy')}",))
    store = whole.open_store()
    with pytest.raises(CorpusError, match=r"clips that judge in split 100 .*\(test\)"):
        plan_teachers(whole, whole.open_corpus(store), store)


def test_a_pool_with_the_audio_of_a_clip_that_judges_is_refused_once_it_is_decoded(
    options, root, field
):
    store = options.open_store()
    corpus = options.open_corpus(store)
    judging = corpus.column("file")[corpus.rows(100, "select")[0]]
    shutil.copy(root / judging, field / "innocent.wav")
    planned = plan_teachers(replace(options, pool=(f"folder:{field}",)), corpus, store)
    with pytest.raises(CorpusError, match=r"innocent = .* \(select\); remove them from the pool"):
        prepare_teachers(planned, planned.find_missing())


def test_a_pool_with_the_audio_of_fit_is_taken_and_that_is_said(options, root, field, capsys):
    store = options.open_store()
    corpus = options.open_corpus(store)
    shutil.copy(root / corpus.column("file")[corpus.rows(100, "fit")[0]], field / "again.wav")
    planned = plan_teachers(replace(options, pool=(f"folder:{field}",)), corpus, store)
    prepare_teachers(planned, planned.find_missing())
    said = " ".join(capsys.readouterr().out.split())
    assert "split 100: 1 clip of the pools have the same audio as clips of fit" in said


def test_files_of_a_pool_that_cannot_be_read_are_named(options, field):
    (field / "broken.wav").write_bytes(b"no sound")
    store = options.open_store()
    named = replace(options, pool=(f"folder:{field}",))
    planned = plan_teachers(named, named.open_corpus(store), store)
    with pytest.raises(UserError, match=r"1 file in .*field cannot be read, .* broken.wav: "):
        prepare_teachers(planned, planned.find_missing())


def test_a_worker_opens_the_pools_of_a_split_by_their_words(options, field):
    corpus = options.open_corpus(options.open_store())
    words = ("unlabelled", f"folder:{field}")
    own, other = open_pools([PoolAt.of(word) for word in words], corpus, 100)
    assert (own.name, own.rows.tolist()) == ("unlabelled", [16, 17])
    assert (other.name, len(other)) == (other.corpus.name, 5)
    assert open_pool(PoolAt.of(words[1]), corpus.clip_duration_s).name == other.name


@pytest.mark.parametrize("word", ["folder", "folder:", "unknown:/x", "/x", ""])
def test_what_is_no_pool_is_refused(word):
    with pytest.raises(ValueError, match="expected rest, unlabelled or CORPUS:ROOT with demo, tau"):
        parse_pool_word(word)
