import shutil

import pytest
import soundfile

JOBS = ("prepare", "teachers", "ensemble", "students", "pipeline")


@pytest.mark.parametrize("job", JOBS)
def test_help_is_complete_and_needs_no_cluster(commands, job, tmp_path):
    printed = commands.run(f"jobs/{job}.py", "--help")
    for option in ("--corpus", "--root", "--store"):
        assert option in printed


def test_prepare_tells_what_the_splits_hold(commands, tmp_path):
    printed = commands.job("prepare", store=tmp_path)
    assert "57 clips of 3 scenes" in printed
    assert (tmp_path / "clips" / "v1" / "corpus=tau" / "clips.parquet").is_file()


def test_a_dry_run_lists_the_runs_and_starts_nothing(commands, tmp_path):
    options = ("--recipes", "demo_mn", "demo_cpr", "--splits", "25", "100", "--dry-run")
    printed = commands.job("teachers", *options, store=tmp_path / "store")
    assert printed.count("to do") == 4
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("job", "options", "message"),
    [
        ("teachers", ("--recipes", "demo_vgg"), "error: no teacher recipe demo_vgg; there are:"),
        ("teachers", ("--splits", "7"), "error: no split [7]; there are: 5, 10, 25, 50, 100"),
        ("teachers", ("--splits", "5"), "no clip in fold fit of split 5"),
        (
            "teachers",
            ("--splits", "25", "--impulse-responses", "/nowhere"),
            "error: /nowhere: no such folder of impulse responses",
        ),
        ("ensemble", (), "error: no store at"),
        ("students", ("--splits", "25"), "error: no store at"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_1(commands, tmp_path, job, options, message):
    printed = commands.job(job, *options, store=tmp_path / "store", code=1)
    assert message in printed
    assert "Traceback" not in printed


@pytest.mark.ray
def test_weights_that_are_not_there_are_named_with_the_way_out(commands, tmp_path):
    options = ("--recipes", "mn10_as_dir_fms", "--splits", "25")
    printed = commands.job("teachers", *options, store=tmp_path, code=1)
    assert "mn10_as_mAP_471.pt" in printed
    assert "--weights none" in printed


def test_tau_without_a_root_asks_for_one(commands, tmp_path):
    printed = commands.run("jobs/prepare.py", "--corpus", "tau", "--store", tmp_path, code=1)
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


def test_broken_clips_are_listed_and_can_be_left_out(commands, damaged, tmp_path):
    root, broken = damaged
    command = ("jobs/prepare.py", "--corpus", "tau", "--root", root, "--store", tmp_path / "store")
    printed = commands.run(*command, code=1)
    assert f"audio/{broken.name}: " in printed
    assert "1 of 57 clips" in printed
    assert "--leave-out-broken" in printed
    assert not (tmp_path / "store").exists()
    printed = commands.run(*command, "--leave-out-broken")
    assert "56 clips of 3 scenes" in printed
    printed = commands.run(*command)  # from now on the store knows
    assert "56 clips of 3 scenes" in printed
    assert "1 clips of" in printed
    assert "not among those of this store: left out" in printed


def test_a_stereo_clip_is_mixed_down_and_said_so(commands, damaged, tmp_path):
    root, _ = damaged
    command = ("jobs/prepare.py", "--corpus", "tau", "--root", root, "--store", tmp_path / "store")
    assert "1 clips had several channels" in commands.run(*command, "--leave-out-broken")
