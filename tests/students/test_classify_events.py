"""A list of events says how many a student misses, and how often it calls something that is not there."""

import io
import sys

import numpy as np
import pytest
import soundfile
from loudness import RATE, as_pcm, tone, write_model

from students.classify import __main__ as classify
from students.classify.event_files import Event, UnfitEvents, read_events
from students.classify.event_scores import (
    Score,
    collect_events,
    count_scores,
    judge,
    render_scores,
    render_verdicts,
)
from students.classify.live import Moment
from students.smoothing import NONE_OF_THEM

CLASSES = ("dog", "rain")
HEAD = "start_s,end_s,class\n"


def write(tmp_path, text):
    file = tmp_path / "events.csv"
    file.write_text(text, encoding="utf-8")
    return file


def judged(found, listed, late_s=1.5):
    """Return the verdicts on dogs that bark from and to these seconds."""
    found, listed = ([Event(*each, scene="dog") for each in events] for events in (found, listed))
    return [(event.start_s, word) for event, word in judge(found, listed, late_s)]


def test_columns_may_stand_in_any_order_beside_others(tmp_path):
    file = write(tmp_path, "\ufeffclass,who,start_s,end_s\ndog,me,1.5,2\nrain,,0,1e3\n")
    assert read_events(file, CLASSES).events == [
        Event(1.5, 2, "dog", row=2),
        Event(0, 1000, "rain", row=3),
    ]
    assert read_events(write(tmp_path, HEAD), CLASSES).events == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first row has no column start_s, expected start_s,end_s,class"),
        ("start_s;end_s;class\n", "the first row has no column start_s"),
        ("start_s,end_s,label\n", "the first row has no column class"),
        (HEAD + "1,2,dog\n2,1,dog\n", "row 3: end_s is 1, expected more than start_s, 2"),
        (HEAD + "a,2,dog\n", "row 2: start_s is 'a', expected seconds from the beginning"),
        (HEAD + "-1,2,dog\n", "row 2: start_s is '-1', expected seconds"),
        (HEAD + "1,inf,dog\n", "row 2: end_s is 'inf', expected seconds"),
        (HEAD + "1\n", "row 2: end_s is '', expected seconds"),
        (HEAD + "1,2\n", r"row 2: class is '', expected one that the student knows \(dog, rain\)"),
        (HEAD + "1,2,cat\n", "row 2: class is 'cat', expected one .* leave the row out"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_with_its_row(tmp_path, text, message):
    with pytest.raises(UnfitEvents, match=f"events.csv: {message}"):
        read_events(write(tmp_path, text), CLASSES)


def test_a_list_that_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "events.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnfitEvents, match="is no CSV file in UTF-8"):
        read_events(tmp_path / "events.csv", CLASSES)
    with pytest.raises(UnfitEvents, match="absent.csv: No such file or directory: name a list"):
        read_events(tmp_path / "absent.csv", CLASSES)
    (tmp_path / "events.csv").write_text(HEAD + "1,2," + "x" * 200_000)
    with pytest.raises(UnfitEvents, match="field larger than field limit"):
        read_events(tmp_path / "events.csv", CLASSES)


def test_an_event_lasts_from_where_its_class_is_on_to_where_it_is_not():
    states = [NONE_OF_THEM, 0, 0, 1, NONE_OF_THEM, NONE_OF_THEM, 0]
    moments = [Moment(1 + index / 4, on, np.zeros(2)) for index, on in enumerate(states)]
    heard = collect_events(moments, CLASSES)
    assert heard.events == [
        Event(1.25, 1.75, "dog"),
        Event(1.75, 2, "rain"),
        Event(2.5, 2.5, "dog"),
    ]
    assert heard.duration_s == 2.5


def test_an_event_is_found_if_its_class_is_on_at_any_time_of_it_or_a_little_later():
    assert judged([(2, 3)], [(2.9, 9)]) == [(2.9, "found")]
    assert judged([(2, 3)], [(1, 1.1)]) == [(1, "found")]
    assert judged([(2.7, 3)], [(1, 1.1)]) == [(1, "missed"), (2.7, "false alarm")]
    assert judged([(2, 3)], [(3.1, 4)]) == [(2, "false alarm"), (3.1, "missed")]


def test_one_alarm_may_find_several_events_and_several_within_one_event_are_not_false():
    assert judged([(1, 9)], [(1, 2), (4, 5), (10, 11)]) == [
        (1, "found"),
        (4, "found"),
        (10, "missed"),
    ]
    assert judged([(1, 2), (3, 4), (5, 6)], [(1, 6)]) == [(1, "found")]


def test_another_class_at_the_same_time_is_a_miss_and_a_false_alarm():
    verdicts = judge([Event(1, 2, "rain")], [Event(1, 2, "dog")], 1.5)
    assert render_verdicts(verdicts) == "1.00\t2.00\tdog\tmissed\n1.00\t2.00\train\tfalse alarm\n"


def test_scores_are_those_of_each_class_and_of_all():
    found = [Event(at, at + 1, "dog") for at in (0, 100, 200)] + [Event(50, 51, "rain")]
    listed = [Event(0, 1, "dog"), Event(60, 61, "dog")]
    scores = count_scores(judge(found, listed, 1.5), CLASSES)
    assert scores == [Score("dog", 2, 1, 2), Score("rain", 0, 0, 1), Score("all", 2, 1, 3)]
    head, dog, rain, everything = render_scores(scores, duration_s=1_800).splitlines()
    assert head.split() == ["events", "missed", "false", "alarms", "an", "hour"]
    assert dog.split() == ["dog", "2", "1", "50", "%", "2", "4.0"]
    assert rain.split() == ["rain", "0", "0", "-", "1", "2.0"]
    assert everything.split() == ["all", "2", "1", "50", "%", "3", "6.0"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A student, and quiet for 40 s with something loud from 10 to 12 and from 30 to 32."""
    folder = tmp_path_factory.mktemp("recording")
    model = write_model(folder / "student.onnx")
    sound = np.concatenate(
        [tone(0.5 if 5 in (at, at - 10) else 0.01, seconds=2) for at in range(20)]
    )
    soundfile.write(folder / "a.wav", sound, RATE)
    return folder, model, sound


def test_a_recording_with_a_list_is_judged(recording, tmp_path, capsys, monkeypatch):
    folder, model, sound = recording
    events = write(tmp_path, HEAD + "10,12,loud\n20,20.5,loud\n0,9,quiet\n")
    options = ["--model", str(model), "--hop", "0.25", "--events", str(events)]
    assert classify.main([str(folder / "a.wav"), *options]) == 0
    printed = capsys.readouterr().out
    lines, table = printed.split("\n\n")
    verdicts = [line.split("\t") for line in lines.splitlines()]
    starts_s = [float(start_s) for start_s, *_ in verdicts]
    assert starts_s == sorted(starts_s)
    assert [verdict[2:] for verdict in verdicts] == [
        ["quiet", "found"],
        ["loud", "found"],
        ["quiet", "false alarm"],
        ["loud", "missed"],
        ["loud", "false alarm"],
        ["quiet", "false alarm"],
    ]
    assert [line.split() for line in table.splitlines()[1:4]] == [
        ["quiet", "1", "0", "0", "%", "2", "180.0"],
        ["loud", "2", "1", "50", "%", "1", "90.0"],
        ["all", "3", "1", "33", "%", "3", "270.0"],
    ]
    assert "40 s heard" in table
    assert "to 1.5 s after its end" in table

    class Input:
        buffer = io.BytesIO(as_pcm(sound))

    monkeypatch.setattr(sys, "stdin", Input())
    assert classify.main(["-", "--sample-rate", str(RATE), *options]) == 0
    assert capsys.readouterr().out == printed


def test_a_list_of_another_recording_or_one_for_several_is_refused(recording, tmp_path, capsys):
    folder, model, _ = recording
    late = write(tmp_path, HEAD + "1,2,loud\n41.1,42,loud\n")
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    for name in "ab":
        (sounds / f"{name}.wav").symlink_to(folder / "a.wav")
    (tmp_path / "empty.wav").touch()
    cases = {
        folder / "a.wav": "row 3: end_s is 42, but the recording ends before 41 s: give the list",
        sounds: "expected one FILE, and these are 2",
        tmp_path / "absent.wav": "absent.wav: No such file or directory",
        tmp_path / "empty.wav": "empty.wav: is empty (0 bytes)",
    }
    for file, message in cases.items():
        assert classify.main([str(file), "--model", str(model), "--events", str(late)]) == 1
        said = capsys.readouterr()
        assert message in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""
