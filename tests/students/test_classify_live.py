"""The command hears overlapping windows; the student tells loud from quiet."""

import io
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile
from loudness import RATE, as_pcm, tone, write_model

from students.classify import __main__ as classify
from students.classify import files
from students.classify.files import open_recording, read_clips
from students.classify.options import LIVE
from students.classify.streams import Sound, cut_windows

BETWEEN = 0.1414
"""The level at which quiet and loud are as likely."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "student.onnx")


@pytest.fixture(scope="module")
def sound():
    """Quiet for 2 seconds, loud for 2, between them for 3, quiet for 2."""
    levels = {0.01: 2, 0.5: 2, BETWEEN: 3, 0.009: 2}
    return np.concatenate([tone(level, seconds=seconds) for level, seconds in levels.items()])


class Input:
    def __init__(self, content):
        self.buffer = io.BytesIO(content)


@pytest.fixture
def classified(model, monkeypatch, capsys):
    """Runs the command on standard input; returns the fields of its lines."""

    def run(samples, *options):
        monkeypatch.setattr(sys, "stdin", Input(as_pcm(samples)))
        typed = ["-", "--sample-rate", RATE, "--model", model, *options]
        assert classify.main(list(map(str, typed))) == 0
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    return run


def test_a_line_is_printed_where_another_class_begins(classified, sound):
    lines = classified(sound, "--hop", 0.25)
    assert [name for _, name, _ in lines] == ["quiet", "loud", "quiet"]
    begins_s = [float(at_s) for at_s, _, _ in lines]
    assert begins_s[0] == 1.0
    # The first windows with something loud in them are called loud; smoothing takes its time.
    assert 2.25 <= begins_s[1] <= 3
    # Loud stays on while it is above its lower threshold.
    assert 7 < begins_s[2] <= 9
    assert all(float(probability) >= 0.5 for _, _, probability in lines)


def test_below_its_threshold_no_class_is_on(classified, sound):
    lines = classified(sound, "--hop", 0.25, "--threshold", 0.9)
    names = [name for _, name, _ in lines]
    assert names == ["quiet", "none of them", "loud", "none of them", "quiet"]
    # What is between them is heard from second 4 to 7.
    assert 5 < float(lines[3][0]) <= 7


def test_each_class_has_a_threshold_of_its_own(classified, sound):
    options = ("--threshold", 0.9, "--threshold", "loud=0.3")
    for hop in (("--hop", 0.25), ()):  # a whole window without it
        lines = classified(sound, *hop, *options)
        assert [name for _, name, _ in lines][:2] == ["quiet", "loud"]
        # As likely as quiet, loud stays on.
        assert float(lines[2][0]) > 7


def test_a_file_gets_the_lines_of_the_same_sound_as_a_stream(
    model, classified, sound, tmp_path, monkeypatch, capsys
):
    streamed = classified(sound, "--hop", 0.3)
    monkeypatch.setattr(files, "PART_S", 0.7)
    names = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    for name in names:
        soundfile.write(name, sound, RATE)
    absent = str(tmp_path / "absent.wav")
    assert classify.main([*names, absent, "--model", str(model), "--hop", "0.3"]) == 1
    said = capsys.readouterr()
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert lines == [[name, *line] for name in names for line in streamed]
    assert "absent.wav: No such file or directory" in said.err
    assert "1 of 3 files could not be classified" in said.err


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg"])
@pytest.mark.parametrize("rate", [RATE, 44_100])
def test_a_recording_is_read_in_parts_as_at_once(tmp_path, monkeypatch, kind, rate):
    file = tmp_path / f"a.{kind}"
    noise = 0.1 * np.random.default_rng(0).standard_normal((2 * rate + 900, 2))
    soundfile.write(file, noise, rate)
    monkeypatch.setattr(files, "PART_S", 0.37)
    recording = open_recording(file)
    blocks = list(recording.blocks)
    assert max(map(len, blocks)) <= 0.37 * rate + 1
    windows = np.stack(list(cut_windows(Sound(blocks, recording.sample_rate), RATE, RATE, RATE)))
    # An MP3 decoder that begins elsewhere rounds in another way.
    tolerance = 1e-7 if kind == "mp3" else 0
    np.testing.assert_allclose(windows, read_clips(file, RATE, RATE), rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_blocks", [1, 7, 300])
def test_windows_begin_a_hop_after_each_other_however_sound_arrives(n_blocks):
    samples_S = np.arange(1_000, dtype=np.float32)
    sound = Sound(np.array_split(samples_S, n_blocks), RATE)
    windows = list(cut_windows(sound, RATE, 400, 150))
    assert [window_S[0] for window_S in windows] == [0, 150, 300, 450, 600]
    assert all(np.array_equal(np.diff(window_S), np.ones(399)) for window_S in windows)


def test_in_a_terminal_there_are_smoothed_bars_and_what_is_on(model, classified, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    content = np.concatenate([tone(0.01), tone(0.5, seconds=0.5)])
    lines = [line for (line,) in classified(content, "--hop", 0.25, "--threshold", 0.9)]
    assert [line.split()[-2:] for line in lines if line.startswith("on")] == [
        ["on:", "quiet\x1b[K"],
        ["of", "them\x1b[K"],
        ["of", "them\x1b[K"],
    ]
    assert [line.split()[0] for line in lines[3:6]] == ["\x1b[3Aquiet", "loud", "on:"]
    assert lines[4].split()[-2:] == ["39", "%"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-", "--hop", "1.5"), "--hop 1.5: expected at most 1 s, the window of this student"),
        (("-", "--threshold", "dog=0.5"), "--threshold dog=0.5: expected a class that the student"),
        (("-",), "no WAV stream: give --sample-rate"),
        (("none.wav", "-", "--hop", "0.5"), "- stands for standard input, expected alone"),
        (("empty.raw", "--hop", "0.5"), "empty.raw: raw samples have no sample rate"),
        ((".", "--hop", "0.5"), ".: no sound file in this folder"),
    ],
)
def test_what_does_not_suit_the_student_is_one_line(
    model, tmp_path, monkeypatch, capsys, options, message
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", Input(bytes(100)))
    assert classify.main([*options, "--model", str(model)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "FILE: expected sound files, folders of them, - for standard input, or --microphone"),
        (("a.wav", "--microphone"), "FILE: expected without --microphone"),
        (("--microphone", "--sample-rate", "8000"), "--sample-rate: expected without --microphone"),
        (("--microphone", "--events", "e.csv"), "--events: expected without --microphone"),
        (("a.wav", "b.wav", "--events", "e.csv"), "--events e.csv: expected one FILE"),
        (("-", "--threshold", "a=1", "--threshold", "a=1"), "expected one for a, and there are 2"),
        (("-", "--threshold", "1", "--threshold", "1"), "expected one for all classes, and"),
        (("-", "--threshold", "loud="), "'': expected a number from 0.01 to 1"),
        (("-", "--threshold", "0"), "'0': expected a number from 0.01 to 1"),
        (("-", "--threshold", "loud=1.01"), "'1.01': expected a number from 0.01 to 1"),
        (("-", "--hop", "nan"), "'nan': expected a number from 0.01 to 60"),
        (("-", "--hop", "0"), "'0': expected a number from 0.01 to 60"),
        (("-", "--hop", "1" * 400), "1...': expected a number from 0.01 to 60"),
    ],
)
def test_options_that_contradict_each_other_or_are_out_of_range_are_refused(
    options, message, capsys
):
    with pytest.raises(SystemExit) as ended:
        classify.main([*options, "--model", "student.onnx"])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


class Microphones(ModuleType):
    """Stands for sounddevice: hears some sound in blocks, and then Ctrl-C."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples, rate, lost=()):
        super().__init__("sounddevice")
        self.samples, self.rate, self.lost, self.n_read = samples, rate, lost, 0

    def query_devices(self, kind):
        assert kind == "input"
        if self.rate is None:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": float(self.rate)}

    def InputStream(self, samplerate, channels, dtype, blocksize, latency):
        assert (samplerate, channels, dtype, latency) == (self.rate, 1, "float32", "high")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_closed = True

    def read(self, n_samples):
        block, self.samples = np.split(self.samples, [n_samples])
        if not len(block):
            raise KeyboardInterrupt
        self.n_read += 1
        return block[:, None], self.n_read in self.lost


@pytest.fixture
def hear(model, monkeypatch, capsys):
    """Runs the command on a microphone; returns exit code, lines of output, and errors."""

    def run(sounddevice, *options):
        monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
        code = classify.main(["--microphone", "--model", str(model), *options])
        said = capsys.readouterr()
        return code, said.out.splitlines(), said.err

    return run


def test_a_microphone_is_heard_at_its_own_rate_until_ctrl_c(hear, classified, sound):
    streamed = classified(sound, "--hop", 0.25)
    code, lines, error = hear(Microphones(sound, RATE), "--hop", "0.25")
    assert (code, error, lines.pop()) == (0, "", "")
    assert [line.split("\t") for line in lines] == streamed
    microphone = Microphones(tone(0.5, 44_100, 2.0), 44_100)
    _, lines, _ = hear(microphone)
    assert [line.split("\t")[:2] for line in lines[:-1]] == [["1.00", "loud"]]
    assert microphone.is_closed


def test_sound_that_a_microphone_lost_is_said_once(hear, sound):
    _, _, error = hear(Microphones(sound, RATE, lost=(3, 4)))
    assert error.count("sound was lost, because a window takes longer than --hop") == 1


def test_without_a_microphone_or_what_it_needs_there_is_one_line_with_a_way_out(
    hear, model, monkeypatch, tmp_path, capsys
):
    cases = {
        "sounddevice is missing: pip install sounddevice": hear(None),
        "Error querying device -1: plug in a microphone": hear(Microphones(tone(0.1), None)),
    }
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice")
    code = classify.main(["--microphone", "--model", str(model)])
    cases["PortAudio library not found): apt install libportaudio2"] = (
        code,
        [],
        capsys.readouterr().err,
    )
    for message, (code, lines, error) in cases.items():
        assert (code, lines) == (1, [])
        assert message in error
        assert LIVE in error
        assert error.count("\n") == 1
