"""Views of three clips, as recorded when views were first stored.

Stored logits of view v belong to exactly this view: if a number here changes, they become wrong.
tests/golden/views.json was made by this command, which makes it again if a change is intended:

    PYTHONPATH=.:tests/audio python -c 'import test_golden_views; test_golden_views.write()'
"""

import json
import zlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from audio import augment, impulse_responses, views
from audio.corpora import demo
from audio.decoding import FULL_SCALE, decode_file
from audio.feed import Feed
from audio.front_ends import ASCDOMAIN_CNN
from audio.views import ASCDOMAIN
from audio.waveforms import Waveforms

FILE = Path(__file__).parents[1] / "golden" / "views.json"
RATE = 32_000
ROWS = (0, 100, 250)  # recording devices a, s2 and a: only a gets responses
VIEWS = (0, 1, 7, 1_000_001)
FIELDS = ("roll_B", "response_B", "band_start_B", "band_width_B", "frame_start_B", "frame_width_B")
BANDS, FRAMES = (3, 40, 90, 150, 210, 250), (0, 20, 45, 64)
SAMPLES = slice(100, None, 2000)


def draw(rows, view):
    corpus = demo.read()
    return views.draw_changes(
        ASCDOMAIN,
        corpus.name,
        np.asarray(rows),
        view,
        reference_B=corpus.column("recording_device")[np.asarray(rows)] == corpus.reference_device,
        n_responses=64,
        n_bands=256,
        n_frames=65,
    )


def decoded():
    """Return the demo corpus at its own rate, with only these three clips decoded."""
    corpus = demo.read()
    samples_NS = np.zeros((len(corpus), RATE), dtype=np.int16)
    for row in ROWS:
        samples_NS[row] = decode_file(corpus.root / corpus.column("file")[row], RATE, 1.0).samples_S
    return Waveforms(samples_NS, RATE)


def make_feed():
    responses_RL = impulse_responses.synthesise_responses(RATE, 64)
    cpu = torch.device("cpu")
    return Feed(demo.read(), decoded(), ASCDOMAIN_CNN, ASCDOMAIN, responses_RL, cpu)


def rolled_crc32(shift):
    """Return a checksum of a clip in which no two samples are equal, after the roll of a view.

    Recordings are not used, because decoding Vorbis may differ by one step between machines.
    """
    ramp = Waveforms(np.arange(-16_000, 16_000, dtype=np.int16)[None], RATE)
    waveforms_BS = ramp.load_batch(np.array([0]), torch.device("cpu"))
    rolled_BS = augment.roll(waveforms_BS, torch.tensor([shift]))
    return zlib.crc32((rolled_BS * FULL_SCALE).numpy().astype("<i2").tobytes())


def values(feed, row, view):
    log_mel_FT = feed.make_view(np.array([row]), view)[0, 0].numpy()
    return log_mel_FT[np.ix_(BANDS, FRAMES)].ravel()


def write():
    corpus, feed, samples_NS = demo.read(), make_feed(), decoded().samples_NS
    clips = []
    for row in ROWS:
        drawn = {view: draw([row], view) for view in VIEWS}
        clips.append(
            {
                "row": row,
                "clip_id": corpus.column("clip_id")[row],
                "samples": samples_NS[row, SAMPLES].tolist(),
                "views": {
                    view: {field: int(getattr(changes, field)[0]) for field in FIELDS}
                    | {
                        "rolled_crc32": rolled_crc32(int(changes.roll_B[0])),
                        "log_mel": [round(float(x), 5) for x in values(feed, row, view)],
                    }
                    for view, changes in drawn.items()
                },
            }
        )
    FILE.write_text(json.dumps(clips, indent=1) + "\n")


CLIPS = {clip["row"]: clip for clip in json.loads(FILE.read_text())} if FILE.exists() else {}
each_clip = pytest.mark.parametrize("row", ROWS)
each_view = pytest.mark.parametrize("view", VIEWS)


@pytest.fixture(scope="module")
def feed():
    return make_feed()


def golden(row, view):
    return CLIPS[row]["views"][str(view)]


@each_clip
@each_view
def test_the_draws_of_a_view_never_change(row, view):
    drawn = draw([row], view)
    assert {field: getattr(drawn, field).tolist() for field in FIELDS} == {
        field: [golden(row, view)[field]] for field in FIELDS
    }


def test_the_golden_views_differ():
    drawn = [golden(row, view) for row in ROWS for view in VIEWS[1:]]
    assert len({each["roll_B"] for each in drawn}) == len(drawn)
    assert {each["response_B"] >= 0 for each in drawn} == {True, False}
    assert min(each["band_width_B"] for each in drawn) < max(each["band_width_B"] for each in drawn)


@each_clip
@each_view
def test_a_view_rolls_to_the_same_bits(row, view):
    assert rolled_crc32(golden(row, view)["roll_B"]) == golden(row, view)["rolled_crc32"]


@each_clip
def test_the_clips_are_decoded_to_the_same_samples(row):
    samples = decoded().samples_NS[row, SAMPLES].tolist()
    # Vorbis decodes in floating point: a value halfway between two may be rounded either way.
    assert samples == pytest.approx(CLIPS[row]["samples"], abs=1)
    assert demo.read().column("clip_id")[row] == CLIPS[row]["clip_id"]


@each_clip
@each_view
def test_a_view_is_the_same_log_mel_spectrogram(feed, row, view):
    # In nepers. If one sample in a hundred is decoded one step apart, the quietest bands change by
    # 0.04; another order of sums changes them by 0.0005, and another view by more than 1 (below).
    np.testing.assert_allclose(
        values(feed, row, view), golden(row, view)["log_mel"], rtol=0, atol=0.1
    )


@each_clip
def test_the_tolerance_distinguishes_views(row):
    log_mels = [np.array(golden(row, view)["log_mel"]) for view in VIEWS]
    apart = [np.abs(a - b).max() for a, b in combinations(log_mels, 2)]
    assert min(apart) > 1


@each_view
def test_a_golden_view_is_the_same_in_any_batch(feed, view):
    rows_B = np.array([250, 3, 100, 0, 7])
    together = feed.make_view(rows_B, view)
    for index, row in ((0, 250), (2, 100), (3, 0)):
        alone = feed.make_view(np.array([row]), view)
        # Transforms of many clips sum in another order: 0.0005 in the quietest bands.
        torch.testing.assert_close(together[index], alone[0], atol=0.002, rtol=0)
