"""Which files of a folder are uploaded to a cluster."""

import os

import pytest

from jobs.schedule import uploads
from jobs.schedule.cluster import ROOT
from jobs.schedule.uploads import FILES_NAMED, MAX_UPLOAD_BYTES, find_upload
from terminal.console import UserError


@pytest.fixture
def folder(tmp_path):
    (tmp_path / ".rayignore").write_text((ROOT / ".rayignore").read_text())
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "teachers.py").write_text("pass\n")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        ".git/config",
        ".venv/bin/python",
        "runs/demo/logits/v1/logits.parquet",
        "store/logits.parquet",
        "mine/clip.wav",
        "mine/clip.flac",
        "jobs/__pycache__/teachers.pyc",
        ".ruff_cache/content",
        "weights.safetensors",
        "tests/golden/views.json",
    ],
)
def test_what_a_cluster_has_no_use_for_stays(folder, name):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("much")
    assert set(find_upload(folder).sizes) == {".rayignore", "jobs/teachers.py"}


def test_the_project_goes_with_the_recordings_of_its_demo_and_is_small():
    sizes = find_upload(ROOT).sizes
    for name in ("jobs/teachers.py", "cluster/prices.toml", "audio/corpora/demo/meta.csv"):
        assert name in sizes
    assert any(name.startswith("audio/corpora/demo/audio/") for name in sizes)
    assert sum(sizes.values()) < MAX_UPLOAD_BYTES / 2


def test_the_upload_is_what_ray_packs(folder, tmp_path):
    from zipfile import ZipFile

    from ray._private.runtime_env.packaging import _zip_files

    (folder / "data").mkdir()
    (folder / "data" / "much.bin").write_bytes(b"x")
    (folder / ".gitignore").write_text("scratch/\n")
    (folder / "scratch").mkdir()
    (folder / "scratch" / "x").write_text("x")
    packed = tmp_path.parent / f"{tmp_path.name}.zip"
    _zip_files(str(folder), [], str(packed), include_gitignore=True)
    assert set(ZipFile(packed).namelist()) == set(find_upload(folder).sizes)


def test_too_much_is_refused_with_the_largest_files(folder):
    for name, size in {
        "small": 10,
        "large.bin": MAX_UPLOAD_BYTES,
        "middle.bin": MAX_UPLOAD_BYTES // 2,
    }.items():
        with (folder / name).open("wb") as file:
            os.truncate(file.fileno(), size)
    with pytest.raises(UserError, match="75.0 MB would be uploaded.* expected at most 50 MB") as e:
        find_upload(folder)
    lines = str(e.value).splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["large.bin", "middle.bin"]
    assert lines[-1].endswith(".rayignore")


def test_only_the_largest_few_are_listed(folder, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_UPLOAD_BYTES", 10)
    for n in range(30):
        (folder / f"{n}.txt").write_text("x" * 100 * (n + 1))
    with pytest.raises(UserError) as e:
        find_upload(folder)
    assert str(e.value).count(" MB  ") == FILES_NAMED
