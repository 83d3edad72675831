"""Selections that documents tell people to try on the demo's store."""

import shlex

import pytest
from command_lines import read
from demo_store import SPLIT, few_clips, write_teachers
from typed_commands import blocks

from jobs.plan.ensembles import parse_settings
from logit_store import LogitStore

SCRIPT = "jobs/ensemble.py"
STORE = "runs/demo"

pytestmark = pytest.mark.usefixtures("compiled")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store in runs/demo."""
    made = tmp_path_factory.mktemp("demo")
    write_teachers(LogitStore(made / STORE), few_clips())
    return made


def selections():
    """Return the commands that select from the demo's store, without the word `python`."""
    pages = ("README.md", "docs/tutorial.md")
    typed = [words[1:] for page in pages for block in blocks(page) for words in block]
    return [words for words in typed if words[:1] == [SCRIPT] and STORE in words]


def test_selections_from_the_demo_work_as_written(called, folder, monkeypatch):
    assert selections()
    monkeypatch.chdir(folder)
    names, n_pictures = set(), 0
    for command in selections():
        called(*command)
        options = read(shlex.join(["python", *command]))
        names |= parse_settings(options).keys()
        n_pictures += len(parse_settings(options)) if options.plot else 0
    found = LogitStore(folder / STORE).ensembles.find_all("demo", SPLIT)
    assert {name.partition("@")[0] for name in found} == names
    assert len(list(folder.rglob("*.svg"))) == n_pictures
