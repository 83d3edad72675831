import math
import pickle

import pytest

from audio.errors import UnfitLength
from audio.lengths import ClipLength


def test_clips_keep_their_length_by_default():
    assert ClipLength().count_samples(1.0, 32_000) == 32_000


@pytest.mark.parametrize(
    ("how", "asked_s", "samples"),
    [("repeat", 10.0, 320_000), ("pad", 1.5, 48_000), ("crop", 0.25, 8_000)],
)
def test_a_duration_is_converted_to_samples(how, asked_s, samples):
    assert ClipLength(how=how, duration_s=asked_s).count_samples(1.0, 32_000) == samples


@pytest.mark.parametrize("how", ["repeat", "pad", "crop"])
def test_every_way_accepts_the_clips_own_duration(how):
    assert ClipLength(how=how, duration_s=1.0).count_samples(1.0, 44_100) == 44_100


@pytest.mark.parametrize(
    ("how", "asked_s", "way_out"),
    [
        ("crop", 2.0, "at most 1 s, use repeat or pad"),
        ("repeat", 0.5, "at least 1 s, use crop"),
        ("pad", 0.5, "at least 1 s, use crop"),
    ],
)
def test_an_impossible_length_is_refused_with_both_durations(how, asked_s, way_out):
    with pytest.raises(UnfitLength, match=way_out) as caught:
        ClipLength(how=how, duration_s=asked_s).count_samples(1.0, 32_000)
    assert f"clips of 1 s cannot become {asked_s:g} s by {how}" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("how", ["repeat", "pad", "crop"])
@pytest.mark.parametrize("duration_s", [None, 0.0, -1.0, math.nan, math.inf])
def test_ways_other_than_native_need_a_duration(how, duration_s):
    with pytest.raises(ValueError, match=f"duration_s={duration_s!r} with how='{how}'"):
        ClipLength(how=how, duration_s=duration_s)


def test_native_takes_no_duration():
    with pytest.raises(ValueError, match=r"duration_s=1\.0 with how='native', expected None"):
        ClipLength(duration_s=1.0)


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match=r"how='loop', expected one of native, repeat, pad, crop"):
        ClipLength(how="loop", duration_s=1.0)
