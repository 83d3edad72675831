import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from matplotlib.image import imread
from report_store import ReportStore, slow_logits

import report.listen
from report.choice import ENSEMBLE, TAUGHT
from report.listen import CLIPS, PICTURE, Player, build_clips, divergence, find_farthest
from report.page.render import render
from report.results import Results


def slow_divergence(first, second):
    """Return the entropy of the mean of two distributions minus the mean of their entropies, in bits."""
    both = [
        np.exp(each.astype(float)) / np.exp(each.astype(float)).sum() for each in (first, second)
    ]

    def entropy(probabilities):
        return -sum(p * np.log2(p) for p in probabilities if p)

    return entropy((both[0] + both[1]) / 2) - (entropy(both[0]) + entropy(both[1])) / 2


def test_the_divergence_is_that_of_entropies():
    first, second = np.random.default_rng(0).normal(0, 3, (2, 20, 5))
    expected = [slow_divergence(*pair) for pair in zip(first, second, strict=True)]
    assert divergence(first, second) == pytest.approx(expected, abs=1e-12)


def test_the_divergence_is_zero_for_equals_and_one_bit_for_opposites():
    logits = np.array([[0.0, 400.0, 0.0]])
    assert divergence(logits, logits + 7) == pytest.approx(0, abs=1e-12)
    assert divergence(logits, logits[:, [1, 0, 2]]) == pytest.approx(1, abs=1e-12)


def test_each_clip_is_from_another_recording():
    distances = np.array([0.1, 0.9, 0.8, 0.5, 0.3])
    recordings = np.array(["x", "y", "y", "x", "z"])
    assert find_farthest(distances, recordings).tolist() == [1, 3, 4]
    many = np.arange(3 * CLIPS)
    assert find_farthest(-many, many).tolist() == list(range(CLIPS))


@pytest.fixture(scope="module")
def section(results):
    return build_clips(results)


def test_the_clips_are_those_on_which_they_differ_most(made, results, section):
    shown = results.featured[100]
    test = made.corpus.rows(100, "test")
    pair = [slow_logits(made, shown[role])[0] for role in (ENSEMBLE, TAUGHT)]
    distances = np.array([slow_divergence(*each) for each in zip(*pair, strict=True)])
    recordings = made.corpus.column("recording")[test]
    best = {r: test[recordings == r][distances[recordings == r].argmax()] for r in set(recordings)}
    table = section.figures[0].table.to_pylist()
    clip_ids = made.corpus.column("clip_id")
    assert {row["clip"] for row in table} == {clip_ids[row] for row in best.values()}
    told = [row["divergence"] for row in table]
    assert told == sorted(told, reverse=True)
    assert told[0] == pytest.approx(distances.max(), abs=1e-5)


def test_the_answers_and_their_probabilities_are_listed(made, results, section):
    shown = results.featured[100]
    clip_ids = made.corpus.column("clip_id")[made.corpus.rows(100, "test")].tolist()
    for row in section.figures[0].table.to_pylist():
        for who, role in (("ensemble", ENSEMBLE), ("student", TAUGHT)):
            logits = slow_logits(made, shown[role])[0][clip_ids.index(row["clip"])].astype(float)
            probabilities = np.exp(logits) / np.exp(logits).sum()
            assert row[f"{who} said"] == made.corpus.scenes[probabilities.argmax()]
            assert row[f"{who} sure"] == pytest.approx(100 * probabilities.max(), abs=1e-3)


def test_the_page_has_the_sound_of_the_files_and_a_picture(made, section):
    sounds = re.findall(r"data:audio/flac;base64,([^\"]+)", section.html)
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", section.html)
    rows = section.figures[0].table.to_pylist()
    assert len(sounds) == len(pictures) == len(rows) == 3
    for row, sound, picture in zip(rows, sounds, pictures, strict=True):
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)))
        there, there_rate = soundfile.read(made.corpus.root / "audio" / f"{row['clip']}.wav")
        assert len(heard) / rate == len(there) / there_rate == 1
        # The clips are tones of one pitch, so the loudest frequencies are equal.
        assert np.abs(np.fft.rfft(heard)).argmax() == np.abs(np.fft.rfft(there)).argmax()
        image = imread(io.BytesIO(base64.b64decode(picture)))
        assert image.shape == (PICTURE.mel_bands, PICTURE.count_frames(rate), 4)


def test_a_page_that_would_be_too_large_has_fewer_sounds(results, monkeypatch):
    whole = len(build_clips(results).html)
    monkeypatch.setattr(report.listen, "MOST_BYTES", whole // 2)
    section = build_clips(results)
    assert section.html.count("<audio") == 1
    assert "too large" in section.text
    assert section.figures[0].table.num_rows == 3


def test_the_section_says_if_only_the_store_knows_the_clips(made, results):
    corpus = type(made.corpus)(name="tau", root=made.corpus.root, table=made.corpus.clips_table())
    told = replace(results, corpus=corpus)
    section = build_clips(told)
    assert section.html == ""
    assert "--root" in section.text
    assert section.figures[0].table.num_rows == 3


def test_missing_audio_is_named(tmp_path):
    made = ReportStore(tmp_path)
    reference = made.ensemble("stepwise", [made.member("teacher", 1, 1.0)])
    made.student(2, 1.0, taught_by=reference, seed=0)
    for file in (made.corpus.root / "audio").iterdir():
        file.unlink()
    section = build_clips(Results.of(made.store, made.corpus))
    assert section.html == ""
    assert "cannot be read" in section.text
    assert str(made.corpus.root / "audio") in section.text


def test_names_are_escaped():
    row = {"scene": "<b>", "clip": 'a"b', "ensemble said": "&", "student said": "<i>"} | {
        "recording device": "<s4>",
        "ensemble sure": 50.0,
        "student sure": 50.0,
        "divergence": 0.1,
    }
    page = render("clips.html", clips=[(row, Player(flac="f", png="p"))])
    for raw in ("<b>", "<i>", "<s4>", 'a"b'):
        assert raw not in page


def test_without_student_or_ensemble_there_is_nothing_to_listen_to(tmp_path):
    made = ReportStore(tmp_path)
    made.member("teacher", 1, 1.0)
    section = build_clips(Results.of(made.store, made.corpus))
    assert not section.figures
    assert section.html == ""
