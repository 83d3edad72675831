"""What documents say of the demo corpus is so."""

import numpy as np
import pytest
from typed_commands import ROOT

from audio.corpora import demo


@pytest.fixture(scope="module")
def corpus():
    return demo.read()


def test_pages_count_the_demos_clips_and_recordings_as_they_are(corpus):
    rows = {(s, f): corpus.rows(s, f) for s in (25, 100) for f in ("fit", "select", "test")}
    n = {key: len(each) for key, each in rows.items()}
    recordings, n_clips = corpus.column("recording"), len(corpus)
    n_recordings, n_tested = (
        len(np.unique(each)) for each in (recordings, recordings[rows[100, "test"]])
    )
    training = n[25, "fit"] + n[25, "select"]
    said = {
        "README.md": (
            f"{n_clips} clips that come with",
            f"{n[100, 'test']} test clips of {n_tested} recordings",
        ),
        "docs/tutorial.md": (
            f"{n_clips} clips of one second",
            f"{n_recordings} recordings, nine recording devices",
            f"{n[25, 'fit']} and {n[100, 'fit']} are `fit`",
            f"the other {n[25, 'select']} and {n[100, 'select']}, `select`",
            f"There are {n[100, 'test']} test clips, but they come from {n_tested} recordings only",
            f"trained for minutes on {n[100, 'fit']} clips",
        ),
        "docs/decisions/0004-select-is-cut-from-the-training-clips.md": (
            f"split 25, {n[25, 'select']} of {training} clips are `select`",
        ),
    }
    for page, sentences in said.items():
        text = " ".join((ROOT / page).read_text().split())
        assert [each for each in sentences if each not in text] == []
    assert len(np.unique(corpus.column("recording_device"))) == 9
    assert len(corpus.scenes) == 10
