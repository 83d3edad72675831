import re
import shutil

import pytest
import soundfile
import torch

from jobs.plan.ensembles import EnsembleOptions, find_candidates
from jobs.worker.train import FineTune
from logit_store import LogitStore

JOBS = ("prepare", "teachers", "ensemble", "students", "search", "quantise", "pipeline")


@pytest.mark.parametrize("job", JOBS)
def test_help_is_complete_and_needs_no_cluster(called, job):
    printed = called(f"jobs/{job}.py", "--help")
    for option in ("--corpus", "--root", "--store"):
        assert option in printed


def test_prepare_shows_what_the_splits_hold(commands, called, tmp_path):
    printed = called(*commands.arguments("prepare", store=tmp_path))
    assert "57 clips of 3 scenes" in printed
    assert (tmp_path / "clips" / "v1" / "corpus=tau" / "clips.parquet").is_file()


def test_a_dry_run_lists_the_runs_and_starts_nothing(commands, called, tmp_path):
    options = ("--recipes", "demo_mn", "demo_cpr", "--splits", "25", "100", "--dry-run")
    printed = called(*commands.arguments("teachers", *options, store=tmp_path / "store"))
    assert printed.count("to do  ") == 4
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("job", "options", "message"),
    [
        (
            "teachers",
            ("--splits", "25", "--recipes", "timm:convnext_atoo"),
            "error: no timm model convnext_atoo; the nearest are convnext_atto",
        ),
        (
            "teachers",
            ("--splits", "25", "--recipes", "demo_cpr", "--weights", "audioset"),
            "error: teacher cpr_128 has no AudioSet weights",
        ),
        (
            "teachers",
            ("--splits", "25", "--weights", "/nowhere/x.pt", "--dry-run"),
            "/nowhere/x.pt: there is no such file",
        ),
        ("teachers", ("--splits", "5"), "no clip in fold fit of split 5"),
        (
            "teachers",
            ("--splits", "25", "--length", "crop:2"),
            "clips of 1 s cannot become 2 s by crop",
        ),
        (
            "teachers",
            ("--splits", "25", "--recipes", "passt_dir_fms", "--length", "repeat:12"),
            "1201 frames; passt takes 16 to 1005: see --length",
        ),
        (
            "teachers",
            ("--splits", "25", "--cross-fit", "5", "--protocol", "published"),
            "with --protocol published teachers learn from select too: leave one of the two out",
        ),
        (
            "teachers",
            ("--splits", "100", "--recipes", "demo_cpr", "--cross-fit", "50"),
            "error: --cross-fit 50: corpus tau, split 100: fold fit has 12 recordings",
        ),
        (
            "teachers",
            ("--splits", "25", "--recipes", "passt_sit"),
            "passt_sit_first cannot be trained on corpus cochlscene: corpus cochlscene: say where",
        ),
        (
            "teachers",
            ("--splits", "25", "--impulse-responses", "/nowhere"),
            "error: /nowhere: no such folder of impulse responses",
        ),
        ("ensemble", (), "error: no store at"),
        ("students", ("--splits", "25"), "error: no store at"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_1(
    commands, called, tmp_path, job, options, message
):
    printed = called(*commands.arguments(job, *options, store=tmp_path / "store"), code=1)
    assert message in printed
    assert "Traceback" not in printed


def test_a_users_mistake_ends_the_process_with_code_1(commands, tmp_path):
    printed = commands.job("students", "--splits", "25", store=tmp_path / "store", code=1)
    assert "error: no store at" in printed
    assert "Traceback" not in printed


def test_missing_weights_are_named_with_the_way_out(commands, called, monkeypatch, tmp_path):
    options = ("--recipes", "mn10_as_dir_fms", "--splits", "25")
    # A proxy that does not exist stands for a missing network.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    command = commands.arguments("teachers", *options, store=tmp_path)
    printed = called(*command, code=1)
    assert "mn10_as_mAP_471.pt" in printed
    assert "--weights none" in printed


def test_weights_of_another_family_are_refused_with_their_keys(commands, called, tmp_path):
    from teachers import build

    file = tmp_path / "cpr.pt"
    torch.save(build("cpr_128", n_classes=3, weights="none").state_dict(), file)
    options = ("--recipes", "mn04_as_dir_fms", "--splits", "25", "--weights", str(file))
    command = commands.arguments("teachers", *options, "--max-steps", "1", store=tmp_path / "s")
    printed = called(*command, code=1)
    assert "cpr.pt" in printed
    assert "missing features.0.0.weight" in printed
    assert not LogitStore(tmp_path / "s").keys("tau")


def test_more_gpus_than_there_are_is_one_message(commands, called, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    options = ("--recipes", "demo_cpr", "--splits", "25", "--gpus-per-teacher", "2")
    printed = called(*commands.arguments("teachers", *options, store=tmp_path), code=1)
    assert "error: --gpus-per-teacher 2: this machine has 0 GPUs" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("job", "options"),
    [
        ("teachers", ("--recipes", "demo_cpr", "--splits", "25")),
        ("students", ("--splits", "25", "--no-teacher")),
        ("search", ("--split", "25", "--no-teacher", "--trials", "1")),
        ("pipeline", ("--recipes", "demo_cpr", "--splits", "25")),
    ],
)
def test_runs_that_would_wait_for_ever_for_cores_are_refused_before_anything_starts(
    commands, called, tmp_path, job, options, dry
):
    options = (*options, "--cpus-per-run", "4096", *dry)
    printed = called(*commands.arguments(job, *options, store=tmp_path / "store"), code=1)
    assert re.search(
        r"error: --cpus-per-run 4096: this machine has \d+ cores?, .* RAY_ADDRESS", printed
    )
    assert not (tmp_path / "store").exists()


def test_a_dry_run_estimates_every_run(called, tmp_path):
    options = ("--corpus", "demo", "--recipes", "demo_*", "--splits", "all", "--dry-run")
    printed = called("jobs/teachers.py", *options, "--store", tmp_path)
    assert printed.count("to do  ") == 20
    assert "20 runs to do, together" in printed


SHORT = ("--recipes", "demo_cpr", "--splits", "25", "--max-steps", "2")


def test_what_is_stored_is_planned_as_done_and_views_are_added(commands, called, tmp_path):
    command = commands.arguments("teachers", *SHORT, store=tmp_path)
    printed = called(*command)
    assert "[1/1] demo_cpr split 25 seed 0: done in" in printed
    assert "epoch 1/" in printed
    assert "next: python jobs/ensemble.py" in printed
    assert "done" in called(*command, "--dry-run")
    assert "1 of 1 run is in the store already" in called(*command)
    assert "epoch 1/" not in called(*command, "--views", "3")  # nothing was trained again
    store = LogitStore(tmp_path)
    keys = store.keys("tau", 25, view=None)
    assert [key.view for key in keys] == [0, 1, 2]
    untouched, *changed = store.read(keys)
    assert all((view != untouched).any() for view in changed)


def test_teachers_of_the_published_protocol_are_never_candidates_with_honest_ones(
    commands, called, tmp_path
):
    store = LogitStore(tmp_path)
    published = commands.arguments("teachers", *SHORT, "--protocol", "published", store=tmp_path)
    assert "published protocol: the test clips judge" in called(*published)
    printed = called(*commands.arguments("ensemble", store=tmp_path), code=1)
    assert "has no teachers of corpus tau (honest protocol)" in printed
    called(*commands.arguments("teachers", *SHORT, store=tmp_path))
    of = {
        protocol: find_candidates(EnsembleOptions(corpus="tau", protocol=protocol), store)[25]
        for protocol in ("published", "honest")
    }
    assert {key.member for key in store.keys("tau", 25)} == {*of["published"], *of["honest"]}
    assert len(of["published"]) == len(of["honest"]) == 1
    assert of["published"] != of["honest"]


def test_a_run_that_fails_is_named_with_its_error_and_the_others_are_done(
    commands, called, monkeypatch, tmp_path
):
    run = FineTune.run

    def run_but_fail_once(work):
        if work.teacher.seed == 0:
            raise RuntimeError("the clips are too quiet")
        return run(work)

    monkeypatch.setattr(FineTune, "run", run_but_fail_once)
    command = commands.arguments("teachers", *SHORT, "--seeds", "0", "1", store=tmp_path)
    printed = called(*command, code=1)
    assert "demo_cpr split 25 seed 0: FAILED" in printed
    assert "failed: demo_cpr split 25 seed 0: RuntimeError: the clips are too quiet" in printed
    assert "demo_cpr split 25 seed 1: done in" in printed
    assert len(LogitStore(tmp_path).keys("tau", 25)) == 1


def test_tau_without_a_root_asks_for_one(called, tmp_path):
    printed = called("jobs/prepare.py", "--corpus", "tau", "--store", tmp_path, code=1)
    assert "--root FOLDER" in printed


@pytest.fixture
def damaged(commands, tmp_path):
    """The corpus of tones with an empty file, and a stereo one."""
    root = tmp_path / "damaged"
    shutil.copytree(commands.corpus, root)
    first, second = sorted((root / "audio").iterdir())[:2]
    first.write_bytes(b"")
    samples, rate = soundfile.read(second)
    soundfile.write(second, samples[:, None].repeat(2, axis=1), rate)
    return root, first


def test_broken_clips_are_listed_and_can_be_left_out(called, damaged, tmp_path):
    root, broken = damaged
    command = ("jobs/prepare.py", "--corpus", "tau", "--root", root, "--store", tmp_path / "store")
    printed = called(*command, code=1)
    assert f"audio/{broken.name}: " in printed
    assert "1 of 57 clips" in printed
    assert "--leave-out-broken" in printed
    assert not (tmp_path / "store").exists()
    printed = called(*command, "--leave-out-broken")
    assert "56 clips of 3 scenes" in printed
    printed = called(*command)  # the store knows it from now on
    assert "56 clips of 3 scenes" in printed
    assert "left out 1 clip of" in printed
    assert "not among those of this store" in printed


def test_a_stereo_clip_is_mixed_down_and_said_so(called, damaged, tmp_path):
    root, _ = damaged
    command = ("jobs/prepare.py", "--corpus", "tau", "--root", root, "--store", tmp_path / "store")
    assert "1 clip had several channels" in called(*command, "--leave-out-broken")
