import numpy as np
import pytest
from tiny import tiny_corpus

from audio.clips import Corpus
from metrics import macro_accuracy, paired_bootstrap
from report.as_text import show_gains, show_systems
from report.summary import TOO_FEW_SEEDS, JudgedClips, System, compare_systems, summarise


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


def logits(corpus, seed, skill):
    noise = np.random.default_rng(seed).standard_normal((len(corpus), 3))
    return (noise + skill * np.eye(3)[corpus.labels()]).astype(np.float32)


def test_figures_are_those_of_the_test_clips_and_means_over_seeds(corpus):
    runs = [logits(corpus, seed, 1.0) for seed in range(3)]
    rows = corpus.rows(100, "test")
    labels = corpus.labels()[rows]
    figures = summarise(corpus, System("x", 100, runs))
    expected = np.mean([macro_accuracy(run[rows], labels) for run in runs])
    assert figures.accuracy.value == pytest.approx(expected, rel=1e-12)
    assert figures.accuracy.low <= figures.accuracy.value <= figures.accuracy.high


def test_a_recording_device_is_unseen_when_the_training_clips_lack_it(corpus):
    devices = corpus.column("recording_device")
    run = 10 * np.eye(3)[corpus.labels()]
    run[devices == "s4"] = 10 * np.eye(3)[(corpus.labels()[devices == "s4"] + 1) % 3]
    figures = summarise(corpus, System("x", 100, [run]))
    assert figures.seen_accuracy == 1.0
    assert figures.unseen_accuracy == 0.0


def test_clips_outside_the_test_fold_change_nothing(corpus):
    run = logits(corpus, 0, 1.0)
    other = run.copy()
    other[corpus.rows(100, "fit", "select")] = 0
    first, second = (summarise(corpus, System("x", 100, [r])) for r in (run, other))
    assert first.accuracy == second.accuracy
    assert first.log_loss == second.log_loss


def test_a_system_compared_with_itself_differs_by_nothing(corpus):
    system = System("x", 100, [logits(corpus, 0, 1.0)])
    difference = compare_systems(corpus, system, system).difference
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_systems_of_other_splits_or_numbers_of_seeds_are_not_compared(corpus):
    run = logits(corpus, 0, 1.0)
    with pytest.raises(ValueError, match="expected the same split and number of seeds"):
        compare_systems(corpus, System("x", 100, [run]), System("y", 100, [run, run]))


def with_sources(corpus):
    """Return the corpus with sources: each of the two clips of a test recording is one."""
    sources = [f"source of {clip_id}" for clip_id in corpus.table["clip_id"].to_pylist()]
    table = corpus.table.append_column("source", [sources])
    return Corpus(name=corpus.name, root=corpus.root, table=table)


def test_intervals_of_a_comparison_are_over_recordings_and_seeds(corpus):
    runs = [[logits(corpus, 10 * n + seed, 1.0) for seed in range(3)] for n in (0, 1)]
    first, second = (System("x", 100, each) for each in runs)
    rows = corpus.rows(100, "test")
    in_test = [np.array(each)[:, rows] for each in runs]
    expected = paired_bootstrap(
        in_test[0],
        in_test[1],
        corpus.labels()[rows],
        corpus.column("recording")[rows],
    )
    assert compare_systems(corpus, first, second) == expected
    assert JudgedClips.of(corpus, 100).name_drawn(3) == "recordings and seeds"
    assert summarise(corpus, second).accuracy == expected.second


def test_sources_are_drawn_where_a_corpus_names_them(corpus):
    named = with_sources(corpus)
    test = JudgedClips.of(named, 100)
    sources = named.column("source")[test.rows].tolist()
    assert test.groups.tolist() == [sorted(set(sources)).index(source) for source in sources]
    assert (test.name_drawn(2), test.name_drawn(3)) == ("sources alone", "sources and seeds")
    system = System("x", 100, [logits(corpus, 0, 1.0)])
    assert summarise(named, system).accuracy != summarise(corpus, system).accuracy


@pytest.mark.parametrize(
    ("n_seeds", "said"),
    [
        (1, f"(1 seed, paired over recordings alone: {TOO_FEW_SEEDS})"),
        (2, f"(2 seeds, paired over recordings alone: {TOO_FEW_SEEDS})"),
        (3, "(3 seeds, paired over recordings and seeds)"),
    ],
)
def test_a_gain_has_no_verdict_from_fewer_than_three_seeds(corpus, capsys, n_seeds, said):
    alone, taught = (
        System(name, 100, [logits(corpus, 10 * seed + n, 3.0 * n) for seed in range(n_seeds)])
        for n, name in enumerate(("alone", "taught"))
    )
    show_gains(corpus, "{}", alone, [taught], unseen=False)
    assert said in " ".join(capsys.readouterr().out.split())


def test_the_table_says_what_its_intervals_are_over(corpus, capsys):
    run = logits(corpus, 0, 1.0)
    for each, groups in ((corpus, "recordings"), (with_sources(corpus), "sources")):
        show_systems(each, [System("x", 100, [run])])
        said = f"over {groups} and seeds (with fewer than 3 seeds over {groups} alone)"
        assert said in " ".join(capsys.readouterr().out.split())
