"""The parts of `fit` that cross-fitted models leave out (N clips)."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from corpus_files import write_corpus

from audio.clips import Corpus
from audio.corpora import tau
from audio.errors import CorpusError
from audio.parts import (
    NO_PART,
    OUT_OF_FOLD,
    deal_recordings,
    draw_parts,
    find_judging_rows,
    leave_out,
)

SCENES = np.repeat(["beach", "cafe", "quay"], [30, 45, 4])
RECORDINGS = np.array([f"{scene}-{row // 3}" for row, scene in enumerate(SCENES[:75])] + 4 * ["q"])
"""10 recordings of 3 clips, 15 of 3 clips, and one of 4 that is alone in its scene."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return tau.read(write_corpus(tmp_path_factory.mktemp("corpus") / "tau"))


def test_a_recording_is_in_one_part_and_each_part_has_its_share_of_each_scene():
    part_N = deal_recordings(SCENES, RECORDINGS, 5)
    for recording in set(RECORDINGS):
        assert len(set(part_N[recording == RECORDINGS])) == 1
    for scene, share in (("beach", 6), ("cafe", 9)):
        assert Counter(part_N[scene == SCENES].tolist()) == dict.fromkeys(range(5), share)


def test_the_parts_do_not_depend_on_the_order_of_the_clips():
    order = np.random.default_rng(0).permutation(len(SCENES))
    shuffled = deal_recordings(SCENES[order], RECORDINGS[order], 4)
    assert shuffled.tolist() == deal_recordings(SCENES, RECORDINGS, 4)[order].tolist()


def test_no_part_has_a_recording_that_is_alone_in_its_scene():
    part_N = deal_recordings(SCENES, RECORDINGS, 2)
    assert (part_N[SCENES == "quay"] == NO_PART).all()
    assert (part_N[SCENES != "quay"] != NO_PART).all()


def test_only_fit_clips_are_in_parts_and_a_model_loses_its_part_and_nothing_else(corpus):
    parts_N = draw_parts(corpus, 100, 2)
    fit = corpus.rows(100, "fit")
    assert set(np.flatnonzero(parts_N != NO_PART)) == set(fit)
    narrow = leave_out(corpus, 100, parts_N == 1)
    assert narrow.rows(100, "fit").tolist() == np.flatnonzero(parts_N == 0).tolist()
    for split, fold in ((100, "select"), (100, "test"), (25, "fit")):
        assert narrow.rows(split, fold).tolist() == corpus.rows(split, fold).tolist()


def test_fewer_recordings_than_parts_are_refused(corpus):
    with pytest.raises(CorpusError, match="has 12 recordings .* expected at least 13 for 13 parts"):
        draw_parts(corpus, 100, 13)


def test_select_and_the_fit_clips_that_models_left_out_judge_out_of_fold(corpus):
    fit, select = corpus.rows(100, "fit"), corpus.rows(100, "select")
    assert find_judging_rows(corpus.table, 100, "select").tolist() == select.tolist()
    found = find_judging_rows(corpus.table, 100, OUT_OF_FOLD)
    assert found.tolist() == sorted([*fit, *select])
    # With one scene's recordings made one, no model can leave it out.
    bus = corpus.column("scene") == "bus"
    recordings = np.where(bus, "one", corpus.column("recording"))
    place = corpus.table.column_names.index("recording")
    alone = replace(
        corpus, table=corpus.table.set_column(place, "recording", pa.array(recordings, pa.string()))
    )
    found = find_judging_rows(alone.table, 100, OUT_OF_FOLD)
    assert set(found) == {*fit[~bus[fit]], *select}
