"""Commands that documents tell people to try on the demo's store, on a cluster."""

import pytest
from demo_store import few_clips, write_teachers
from typed_commands import blocks

from logit_store import LogitStore

SCRIPT = "jobs/ensemble.py"
STORE = "runs/demo"

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("connected", "compiled")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where runs/demo lies."""
    made = tmp_path_factory.mktemp("demo")
    write_teachers(LogitStore(made / STORE), few_clips())
    return made


def selections():
    """What is selected from the demo's store, without `python`."""
    pages = ("README.md", "docs/tutorial.md")
    typed = [words[1:] for page in pages for block in blocks(page) for words in block]
    return [words for words in typed if words[:1] == [SCRIPT] and STORE in words]


def test_selections_from_the_demo_work_as_written(called, folder, monkeypatch):
    assert len(selections()) == 3
    monkeypatch.chdir(folder)
    for command in selections():
        called(*command)
    names = {name.partition("@")[0] for name in LogitStore(folder / STORE).ensembles("demo", 100)}
    spaces = [f"stepwise-{space}" for space in ("logits", "probabilities")]
    assert names == {
        "cnn_only",
        "cnn",
        *(f"{s}-{way}" for s in spaces for way in ("with", "without")),
    }
    # Of the four ensembles that are drawn, on two splits.
    assert len(list((folder / "pictures").glob("*.svg"))) == 8
