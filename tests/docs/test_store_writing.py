"""A store that another program wrote, by docs/store-writing.md alone, is like one of the project's own."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typed_commands import ROOT, blocks, fenced, options_of

from ensemble.stored import compute_ensemble_logits
from jobs.command import run
from jobs.schedule.workers import IN_PROCESS
from logit_store import LogitStore
from logit_store.__main__ import main
from logit_store.verify import verify


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    (program,) = fenced((ROOT / "docs/store-writing.md").read_text(), "python")
    # Isolated: nothing of the project can be imported, in case the page ever tries.
    command = [sys.executable, "-I", "-c", program]
    subprocess.run(command, cwd=folder, check=True)
    return LogitStore(folder / "runs/foreign")


def test_the_project_reads_it_and_finds_nothing_wrong(store):
    assert verify(store) == []
    clips = store.read_clips("folder")
    (key,) = store.keys("folder", 100, kind="teacher")
    (logits_NK,) = store.read([key])
    labels_N = np.array([["café", "quay"].index(scene) for scene in clips["scene"].to_pylist()])
    noise_NK = np.random.default_rng(0).normal(0, 1, (40, 2)) + np.eye(2)[labels_N]
    np.testing.assert_array_equal(logits_NK, noise_NK.astype(np.float16))
    np.testing.assert_array_equal(compute_ensemble_logits(store, "folder", 100, "alone"), logits_NK)


def test_listings_and_queries_show_it(store, capsys):
    assert main(["ls", "--store", store.address, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["recipe"], row["kind"], row["protocol"]) == ("noisy", "teacher", "honest")
    shown = store.sql("select fold, count(*) as n from predictions group by all order by all")
    assert shown.to_pylist() == [
        {"fold": "fit", "n": 20},
        {"fold": "select", "n": 12},
        {"fold": "test", "n": 8},
    ]
    (member,) = store.sql("select name, weight from ensembles").to_pylist()
    assert member == {"name": "alone", "weight": 1.0}


def test_the_jobs_that_the_page_names_work_with_it(store, tmp_path, monkeypatch, capsys):
    shutil.copytree(store.address, tmp_path / "runs/foreign")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(IN_PROCESS, "1")
    (commands,) = blocks("docs/store-writing.md")
    for _, *words in commands:
        monkeypatch.setattr(sys, "argv", words)
        job = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
        with pytest.raises(SystemExit) as ended:
            run(job.main, options_of(words[0]))
        assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "ensemble stepwise split 100  to do" in printed
    assert "report-folder.html" in printed


def test_its_footers_say_what_the_project_would_have_written(store, tmp_path):
    own = LogitStore(tmp_path)
    own.write_clips("folder", store.read_clips("folder"))
    (key,) = store.keys()
    own.write(key, store.read([key])[0], store.read_record(key))
    for name in ("clips/v1/*/*", "logits/v1/*/*/*/*/*"):
        (foreign,), (expected,) = store.files.find(name), own.files.find(name)
        pairs, wanted = (
            pq.read_metadata(files.locate(entry.name)).metadata
            for files, entry in ((store.files, foreign), (own.files, expected))
        )
        assert pairs.keys() == wanted.keys()
        text = pairs.keys() - {b"tutti.figures", b"tutti.record", b"tutti.digest"}
        assert {name: pairs[name] for name in text} == {name: wanted[name] for name in text}


@pytest.mark.parametrize("name", ["clips/v1/*/*", "logits/v1/*/*/*/*/*"])
def test_its_checksums_are_compared(store, tmp_path, name):
    (entry,) = store.files.find(name)
    data = bytearray(store.files.get(entry.name))
    place = data.rindex(b"tutti-blake2b:") + len("tutti-blake2b:")
    copy = LogitStore(shutil.copytree(store.address, tmp_path / "copy"))
    # A digit of the digest, a digest of another form, a byte of a page.
    for changed in (place, place - 1, 200):
        other = bytearray(data)
        other[changed] ^= 1
        Path(copy.files.locate(entry.name)).write_bytes(other)
        assert verify(copy), changed
