"""--store names the same place on every machine, or it is refused."""

import json
from pathlib import Path

import pytest

from jobs.plan.options import CorpusOptions
from terminal.console import UserError


@pytest.fixture
def uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"runtime_env": {"working_dir": "gcs://package.zip"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(config))


@pytest.mark.usefixtures("uploaded")
def test_an_uploaded_job_takes_a_bucket_as_it_is() -> None:
    assert CorpusOptions(store="s3://bucket/prefix").open_store().address == "s3://bucket/prefix"


@pytest.mark.usefixtures("uploaded")
def test_an_uploaded_job_refuses_a_folder_of_its_copy() -> None:
    with pytest.raises(UserError, match=r"--store runs/x.*absolute path, or s3://BUCKET/PREFIX"):
        CorpusOptions(store="runs/x").open_store()


def test_a_folder_is_named_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CorpusOptions(store="runs/x").open_store().address == str(tmp_path / "runs" / "x")
