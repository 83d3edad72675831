"""`jobs/teachers.py --recipes probe:BACKBONE`: embeddings in shards, then linear heads on them."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tiny_backbone
from corpus_files import write_corpus

from audio.errors import CorpusError
from audio.parts import NO_PART, draw_parts
from jobs import teachers
from jobs.pipeline import PipelineOptions, PipelineTasks, Stages
from jobs.plan import probes as plan
from jobs.plan.teacher_options import TeachersOptions
from jobs.plan.teachers import plan_teachers
from jobs.schedule.task import Outcome
from jobs.worker.probes import EmbedClips, FitProbe
from jobs.worker.select import SelectEnsemble
from jobs.worker.train import Distill
from logit_store import LogitStore, strip_fingerprint
from teachers.fit_probe import fit_probe
from teachers.linear_head import fit_head
from terminal.console import UserError

N_CLIPS = 57
N_SHARDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of tones, two frozen networks, and a store with a probe on each split."""
    folder = tmp_path_factory.mktemp("probes")
    write_corpus(folder / "tau")
    for number in range(2):
        tiny_backbone.write_backbone(folder / f"net{number}.onnx", seed=number)
    with pytest.MonkeyPatch.context() as patch:
        set_up(patch, folder)
        assert teachers.main(make_options(folder, folder / "store")) == 0
    return folder


@pytest.fixture(autouse=True)
def in_process(folder, monkeypatch):
    set_up(monkeypatch, folder)


def set_up(patch, folder):
    patch.setenv("TUTTI_CACHE", str(folder / "cache"))
    patch.setenv("TUTTI_IN_PROCESS", "1")
    # Three shards of the corpus of tones.
    patch.setattr(plan, "SMALLEST_SHARD", -(-N_CLIPS // N_SHARDS))
    patch.setattr(plan, "LARGEST_SHARD", -(-N_CLIPS // N_SHARDS))


def make_options(folder, store, *, nets=(0,), **options):
    names = "+".join(f"onnx:{folder / f'net{net}.onnx'}" for net in nets)
    options = {"splits": (25, 100)} | options
    return TeachersOptions(
        corpus="tau",
        root=str(folder / "tau"),
        store=str(store),
        recipes=(f"probe:{names}",),
        onnx_rate=tiny_backbone.RATE,
        **options,
    )


def make_plan(options):
    store = options.open_store()
    return plan_teachers(options, options.open_corpus(store), store)


def copy_store(folder, tmp_path):
    """Return a store with the embeddings of the shared one, but no probe."""
    source, target = LogitStore(folder / "store"), LogitStore(tmp_path / "store")
    target.write_clips("tau", source.read_clips("tau"))
    for key in source.embeddings.keys():
        footer = source.embeddings.read_footer(key)
        target.embeddings.write(key, source.embeddings.read(key), footer.record)
    return target


def test_a_probe_is_a_teacher_like_any_other(folder):
    store = LogitStore(folder / "store")
    keys = store.keys(corpus="tau", kind="teacher")
    assert sorted(key.split for key in keys) == [25, 100]
    table = store.members("tau", split=100).to_pylist()
    assert [(row["recipe"], row["family"]) for row in table] == [("probe_onnx_net0", "probe")]
    (run,) = [row for row in store.runs("tau").to_pylist() if row["split"] == 100]
    assert (run["epochs"], run["model"], run["seed"], run["protocol"]) == (None, None, 0, "honest")
    assert run["accuracy_select"] > 0.9


def test_a_probe_says_what_it_is_made_of(folder):
    store = LogitStore(folder / "store")
    (key,) = store.keys(split=100)
    record = store.read_record(key)
    (backbone,) = record["backbones"]
    (embeddings,) = store.embeddings.keys()
    assert backbone["embeddings"] == embeddings.backbone
    assert backbone["embeddings_hash"] == store.embeddings.read_footer(embeddings).embeddings_hash
    assert len(backbone["weights_sha256"]) == 64
    assert backbone["clips"] == N_CLIPS
    assert record["l2"] in record["recipe"]["l2_grid"]
    assert len(record["held_out_losses"]) == len(record["recipe"]["l2_grid"])


def test_logits_are_those_of_a_head_on_the_stored_embeddings_of_fit(folder):
    store = LogitStore(folder / "store")
    corpus = make_plan(make_options(folder, folder / "store")).corpus
    (key,), (embeddings,) = store.keys(split=25), store.embeddings.keys()
    embeddings_ND, rows = store.embeddings.read(embeddings), corpus.rows(25, "fit")
    fitted = fit_head(
        embeddings_ND[rows], corpus.labels()[rows], corpus.column("recording")[rows], 3, seed=0
    )
    expected_NK = fitted.head.compute_logits(embeddings_ND)
    np.testing.assert_allclose(store.read([key])[0], expected_NK, rtol=1e-3, atol=1e-3)


def test_what_is_stored_is_not_computed_again(folder, tmp_path, monkeypatch):
    store = copy_store(folder, tmp_path)
    monkeypatch.setattr(EmbedClips, "run", lambda work: pytest.fail("embedded again"))
    assert teachers.main(make_options(folder, tmp_path / "store")) == 0
    assert len(store.keys()) == 2
    monkeypatch.setattr(FitProbe, "run", lambda work: pytest.fail("fitted again"))
    assert teachers.main(make_options(folder, tmp_path / "store")) == 0


def test_shards_that_are_stored_are_not_embedded_again(folder, tmp_path, monkeypatch):
    (done, _, _), embedded = _find_shards(folder, tmp_path), []
    options = make_options(folder, tmp_path / "store", splits=(25,))
    planned = make_plan(options)
    planned.store.write_clips("tau", planned.corpus.clips_table())
    done.work.run()
    run = EmbedClips.run
    monkeypatch.setattr(EmbedClips, "run", lambda work: (embedded.append(work.start), run(work))[1])
    assert teachers.main(options) == 0
    assert embedded == [19, 38]
    (key,) = planned.store.embeddings.keys()
    expected_ND = LogitStore(folder / "store").embeddings.read(key)
    np.testing.assert_array_equal(planned.store.embeddings.read(key), expected_ND)
    assert planned.store.embeddings.find_shards(key) == []


def _find_shards(folder, tmp_path):
    planned = make_plan(make_options(folder, tmp_path / "store", splits=(25,)))
    (embeddings,) = planned.probes.embeddings.values()
    assert [task.work.start for task in embeddings.shards] == [0, 19, 38]
    return embeddings.shards


def test_all_work_can_be_sent_to_another_machine(folder, tmp_path):
    planned = make_plan(make_options(folder, tmp_path / "store", splits=(25,))).probes
    (embeddings,) = planned.embeddings.values()
    for task in (*embeddings.shards, embeddings.join, *planned.tasks):
        assert pickle.loads(pickle.dumps(task.work)) == task.work


def test_a_lost_shard_leaves_its_probes_waiting_and_the_command_says_so(
    folder, tmp_path, monkeypatch, capsys
):
    def fail(work):
        raise OSError("no more disk")

    monkeypatch.setattr(EmbedClips, "run", fail)
    assert teachers.main(make_options(folder, tmp_path / "store")) == 1
    assert "no more disk" in capsys.readouterr().err


def test_probes_take_embeddings_side_by_side_and_learn_from_views(folder, tmp_path):
    copy_store(folder, tmp_path)
    options = make_options(
        folder, tmp_path / "store", nets=(0, 1), splits=(100,), views=2, probe_views=2
    )
    assert teachers.main(options) == 0
    store = LogitStore(tmp_path / "store")
    assert len(store.embeddings.keys(view=None)) == 4
    keys = store.keys(view=None)
    assert [key.view for key in keys] == [0, 1]
    assert strip_fingerprint(keys[0].member) == "probe_onnx_net0_onnx_net1"
    logits_MNK = store.read(keys)
    assert (logits_MNK[0] != logits_MNK[1]).any()
    record = store.read_record(keys[0])
    assert [each["dims"] for each in record["backbones"]] == [tiny_backbone.N_DIMS] * 2
    # It learnt both views: another member than one that has heard the untouched clips alone.
    planned = make_plan(replace(options, probe_views=1))
    assert planned.probes.tasks[0].keys[0] not in store


def test_views_of_a_stored_probe_are_predicted_by_the_head_that_it_has(
    folder, tmp_path, monkeypatch
):
    copy_store(folder, tmp_path)
    options = make_options(folder, tmp_path / "store", splits=(100,))
    assert teachers.main(options) == 0
    monkeypatch.setattr("teachers.fit_probe.fit_head", lambda *given: pytest.fail("fitted again"))
    assert teachers.main(replace(options, views=2)) == 0
    assert len(LogitStore(tmp_path / "store").keys(view=None)) == 2


def test_a_probe_predicts_pools_named_later(folder, tmp_path):
    copy_store(folder, tmp_path)
    field = tmp_path / "field"
    field.mkdir()
    for number in range(4):
        noise = 0.1 * np.random.default_rng(number).standard_normal(tiny_backbone.RATE)
        soundfile.write(field / f"day-{number}.wav", noise, tiny_backbone.RATE)
    options = make_options(folder, tmp_path / "store", splits=(100,))
    assert teachers.main(options) == 0
    assert teachers.main(replace(options, pool=(f"folder:{field}",))) == 0
    store = LogitStore(tmp_path / "store")
    (own,) = store.keys(corpus="tau")
    (of_pool,) = [key for key in store.keys() if key.corpus != "tau"]
    assert of_pool.member == own.member
    footer = store.read_footer(of_pool)
    assert footer.classes == ("airport", "bus", "park")
    assert (footer.record["pool"], footer.record["learnt_corpus"]) == (of_pool.corpus, "tau")
    assert store.read([of_pool]).shape == (1, 4, 3)


def test_cross_fitted_probes_predict_fit_clips_by_heads_that_did_not_learn_them(folder, tmp_path):
    store = copy_store(folder, tmp_path)
    planned = make_plan(make_options(folder, tmp_path / "store", splits=(100,)))
    (task,), corpus = planned.probes.tasks, planned.corpus
    run = replace(task.work.probe, cross_fit=3)
    key = fit_probe(run, corpus, store, responses=None)
    assert key.member != task.keys[0].member
    record = store.read_record(key)
    assert (record["cross_fit"], len(record["heads"])) == (3, 3)
    embeddings_ND = store.embeddings.read(next(iter(planned.probes.embeddings)))
    parts_N, rows = draw_parts(corpus, 100, 3), corpus.rows(100, "fit")
    labels_N, recordings_N = corpus.labels(), corpus.column("recording")
    found_NK = store.read([key])[0]
    of_parts = []
    for part in range(3):
        kept, left_out = rows[parts_N[rows] != part], rows[parts_N[rows] == part]
        fitted = fit_head(embeddings_ND[kept], labels_N[kept], recordings_N[kept], 3, run.seed)
        of_parts.append(fitted.head.compute_logits(embeddings_ND))
        assert len(left_out)
        np.testing.assert_allclose(found_NK[left_out], of_parts[-1][left_out], rtol=1e-3, atol=1e-3)
    others = np.flatnonzero(parts_N == NO_PART)
    mean_NK = np.mean(of_parts, axis=0)
    np.testing.assert_allclose(found_NK[others], mean_NK[others], rtol=1e-3, atol=1e-3)


def test_another_seed_or_network_is_another_member(folder, tmp_path):
    def find_member(**options):
        (task,) = make_plan(make_options(folder, tmp_path, **options)).probes.tasks
        return task.keys[0].member

    once = {"splits": (100,)}
    members = [
        find_member(**once, **more)
        for more in ({}, {"seeds": (1,)}, {"nets": (1,)}, {"protocol": "published"})
    ]
    assert len(set(members)) == 4
    assert members[0] == LogitStore(folder / "store").keys(split=100)[0].member


def test_the_dry_run_shows_embeddings_and_probes_and_writes_nothing(folder, tmp_path, capsys):
    assert teachers.main(make_options(folder, tmp_path / "store", dry_run=True)) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "3 runs to do" in printed
    assert "probe_onnx_net0 split 100 seed 0 to do" in printed
    assert (
        f"decoded audio: 0.00 GB in TUTTI_CACHE of each node for tau at {tiny_backbone.RATE}"
        in (printed)
    )
    assert not (tmp_path / "store").exists()
    assert teachers.main(make_options(folder, folder / "store", dry_run=True, seeds=(0, 1))) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 runs to do" in printed
    assert "split 100 seed 0 done" in printed


def test_a_budget_counts_embeddings_and_probes(folder, tmp_path, capsys):
    options = make_options(folder, tmp_path / "store", splits=(25,), machine="laptop", budget=1.0)
    assert teachers.main(options) == 0
    assert "budget: 1.00 USD; expected for all runs: 0.00" in capsys.readouterr().out


def test_the_pipeline_selects_once_the_last_probe_is_done(folder, tmp_path):
    store = copy_store(folder, tmp_path)
    options = PipelineOptions(
        corpus="tau",
        root=str(folder / "tau"),
        store=str(tmp_path / "store"),
        splits=(100,),
        recipes=tuple(f"probe:onnx:{folder / f'net{number}.onnx'}" for number in range(2)),
        onnx_rate=tiny_backbone.RATE,
    )
    tasks = PipelineTasks(Stages.of(options), options.open_corpus(store), store)
    *shards, fit = [task for task in tasks.list_first() if not isinstance(task.work, Distill)]
    assert isinstance(fit.work, FitProbe)
    assert [list(tasks.follow(Outcome(task))) for task in shards[:-1]] == [[]] * (N_SHARDS - 1)
    (join,) = tasks.follow(Outcome(shards[-1]))
    for task in (*shards, join):
        task.work.run()
    (other,) = tasks.follow(Outcome(join))
    assert list(tasks.follow(Outcome(fit))) == []
    (selection,) = tasks.follow(Outcome(other))
    assert isinstance(selection.work, SelectEnsemble)


def test_a_backbone_that_knows_labels_of_another_split_is_refused(folder):
    (member,) = [key.member for key in LogitStore(folder / "store").keys(split=25)]
    options = make_options(folder, folder / "store", splits=(100,))
    with pytest.raises(UserError, match="no teacher with weights"):
        make_plan(replace(options, recipes=(f"probe:{member}",)))


def test_a_scene_without_a_clip_to_learn_from_is_named(folder, tmp_path):
    planned = make_plan(make_options(folder, tmp_path, splits=(100,)))
    corpus = planned.corpus
    fold_N = corpus.table["fold_100"].to_pylist()
    scenes = corpus.column("scene")
    lacking = [None if scene == "bus" else fold for scene, fold in zip(scenes, fold_N, strict=True)]
    place = corpus.table.column_names.index("fold_100")
    table = corpus.table.set_column(place, "fold_100", [lacking])
    options = make_options(folder, tmp_path, splits=(100,))
    with pytest.raises(CorpusError, match="split 100: fold fit has no clip of bus"):
        plan_teachers(options, replace(corpus, table=table), options.open_store())


@pytest.mark.parametrize(
    "idle", [{"weights": "none"}, {"length": "crop:0.5"}, {"epochs": 3}, {"max_steps": 2}]
)
def test_options_of_fine_tuning_are_refused_where_there_are_only_probes(folder, idle):
    (name,) = idle
    option = f"--{name.replace('_', '-')}"
    with pytest.raises(UserError, match=f"{option}: nothing here is fine-tuned"):
        teachers.main(make_options(folder, folder / "store", **idle))
