import shutil

import pytest
import torch
from corpus_files import write_corpus
from demo_store import write_demo_store
from typed_commands import ROOT

from audio.corpora import tau as tau_layout


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder for the decoded audio of these tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def taught_store(cache, tmp_path_factory):
    """A store that is made once and copied."""
    folder = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUTTI_CACHE", str(cache))
        write_demo_store(str(folder))
    return folder


@pytest.fixture
def demo_folder(taught_store, cache, tmp_path, monkeypatch):
    """The current folder, with a small store in runs/demo like that of `make demo`, and the demo's sounds."""
    shutil.copytree(taught_store, tmp_path / "runs" / "demo")
    (tmp_path / "audio").symlink_to(ROOT / "audio")
    monkeypatch.setenv("TUTTI_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tau_folder(tmp_path_factory):
    """A corpus of tones in TAU's layout."""
    return write_corpus(tmp_path_factory.mktemp("tau") / "corpus")


@pytest.fixture(scope="session")
def logits_folder(tau_folder, tmp_path_factory):
    """Logits of it in files, as other projects publish them."""
    folder = tmp_path_factory.mktemp("logits")
    labels_N = torch.from_numpy(tau_layout.read(tau_folder).labels())
    for name in ("mn10_as_dir_fms_25", "passt_dir_fms_100"):
        torch.save(4.0 * torch.nn.functional.one_hot(labels_N).float(), folder / f"{name}.pt")
    return folder
