"""What documents say of the demo's corpus, and of its table's gains, is so."""

import re

import numpy as np
import pytest
from typed_commands import ROOT

from audio.corpora import demo
from audio.pools import find_pools
from jobs.pipeline import DEMO_POOL, DEMO_SPLITS

PAGES = ("README.md", "docs/tutorial.md")


@pytest.fixture(scope="module")
def corpus():
    return demo.read()


def read_words(page):
    return " ".join((ROOT / page).read_text().split())


def test_pages_count_the_demos_clips_and_recordings_as_they_are(corpus):
    (split,) = DEMO_SPLITS
    n_fit, n_select, n_test = (len(corpus.rows(split, f)) for f in ("fit", "select", "test"))
    (pool,) = find_pools(corpus, split, DEMO_POOL, None)
    n_pool, n_clips = len(pool.rows), len(corpus)
    recordings = corpus.column("recording")
    n_recordings, n_tested = (
        len(np.unique(each)) for each in (recordings, recordings[corpus.rows(split, "test")])
    )
    said = {
        "README.md": (
            f"{n_clips} clips that come with",
            f"on {n_fit} labelled clips",
            f"a pool: {n_pool} clips",
            f"{n_test} test clips of {n_tested} recordings",
        ),
        "docs/tutorial.md": (
            f"{n_clips} clips of one second",
            f"{n_recordings} recordings, nine recording devices",
            f"the {n_fit} clips that are `fit`",
            f"the other {n_select}, `select`",
            f"the {n_pool} training clips that split {split} leaves out",
            f"There are {n_test} test clips, but they come from {n_tested} recordings only",
            f"On the {n_fit} clips that it learnt",
            f"hears {n_fit + n_pool} clips instead of {n_fit}",
        ),
        "docs/decisions/0004-select-is-cut-from-the-training-clips.md": (
            f"split {split}, {n_select} of {n_fit + n_select} clips are `select`",
        ),
    }
    for page, sentences in said.items():
        assert [each for each in sentences if each not in read_words(page)] == []
    assert len(np.unique(corpus.column("recording_device"))) == 9
    assert len(corpus.scenes) == 10


def test_pages_show_one_table_of_the_demo_and_name_its_gains():
    texts = [(ROOT / page).read_text() for page in PAGES]
    short, whole = (set(re.findall(r"^ [a-z_:, ]+ 25 .*$", text, re.MULTILINE)) for text in texts)
    assert short
    assert short < whole
    shown, expected = (re.findall(r"^gain of .*", text, re.MULTILINE) for text in texts)
    assert shown == expected
    gains = re.findall(r"[+-]([\d.]+) points", " ".join(shown))
    assert len(gains) == 2
    for page in PAGES:
        assert all(read_words(page).count(f"{gain} points") > 1 for gain in gains)
