import errno
import io
import os
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from loudness import CLASSES, RATE, as_pcm, tone, write_model

from audio.decoding import decode_file
from students.classify import __main__ as classify
from students.classify import seconds
from students.classify.files import read_clips
from students.classify.messages import BAR_WIDTH
from students.classify.streams import resample_blocks
from students.runtime import load_exported

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "student.onnx")


def said(capsys):
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def live(monkeypatch, content, *arguments):
    """Run the command with these bytes on standard input."""

    class Input:
        buffer = io.BytesIO(content)

    monkeypatch.setattr(sys, "stdin", Input())
    return classify.main(["-", *map(str, arguments)])


def test_a_file_gets_its_scene(model, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE)
    soundfile.write(tmp_path / "b.wav", tone(0.01), RATE)
    files = [str(tmp_path / name) for name in ("a.wav", "b.wav")]
    assert classify.main([*files, "--model", str(model)]) == 0
    first, second = said(capsys)
    assert first[:2] == [files[0], "loud"]
    assert second[:2] == [files[1], "quiet"]
    assert float(first[2]) > 0.99


def test_a_folder_is_read_with_its_subfolders(model, tmp_path, capsys):
    (tmp_path / "below").mkdir()
    soundfile.write(tmp_path / "below" / "a.flac", tone(0.5), RATE)
    soundfile.write(tmp_path / "b.wav", tone(0.01), RATE)
    (tmp_path / "notes.txt").write_text("no sound")
    assert classify.main([str(tmp_path), "--model", str(model)]) == 0
    assert [Path(line[0]).name for line in said(capsys)] == ["b.wav", "a.flac"]


def test_raw_samples_in_a_file_are_refused_and_left_out_of_folders(model, tmp_path, capsys):
    (tmp_path / "a.raw").write_bytes(as_pcm(tone(0.5)))
    soundfile.write(tmp_path / "b.wav", tone(0.5), RATE)
    assert classify.main([str(tmp_path), "--model", str(model)]) == 0
    assert len(said(capsys)) == 1
    assert classify.main([str(tmp_path / "a.raw"), "--model", str(model)]) == 1
    assert "a.raw: raw samples have no sample rate" in capsys.readouterr().err


def test_other_rates_channels_and_lengths_become_clips(tmp_path):
    file = tmp_path / "stereo.wav"
    left, right = tone(0.6, 44_100, 2.7), tone(0.2, 44_100, 2.7)
    soundfile.write(file, np.stack([left, right], axis=1), 44_100, subtype="FLOAT")
    clips_BS = read_clips(file, RATE, RATE)
    assert clips_BS.shape == (2, RATE)
    np.testing.assert_allclose(clips_BS.ravel()[500:-500], tone(0.4, RATE, 2)[500:-500], atol=1e-4)


def test_a_file_shorter_than_a_clip_is_followed_by_silence(tmp_path):
    file = tmp_path / "short.wav"
    soundfile.write(file, tone(0.5, seconds=0.25), RATE, subtype="FLOAT")
    clips_BS = read_clips(file, RATE, RATE)
    assert clips_BS.shape == (1, RATE)
    assert np.abs(clips_BS[0, :2000]).max() > 0.4
    assert not clips_BS[0, 2000:].any()


def test_one_broken_file_does_not_stop_the_others(model, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(b"no sound at all")
    soundfile.write(tmp_path / "b.wav", tone(0.5), RATE)
    soundfile.write(tmp_path / "c.wav", tone(0.5)[:0], RATE)
    soundfile.write(tmp_path / "d.wav", tone(0.5), 1)
    assert classify.main([str(tmp_path), "--model", str(model)]) == 1
    streams = capsys.readouterr()
    assert "b.wav\tloud" in streams.out
    assert "a.wav" in streams.err
    assert "c.wav: holds no samples" in streams.err
    assert "d.wav: its header says 1 Hz, expected 1,000 to 384,000" in streams.err


def test_hidden_files_are_passed_over_and_bad_ones_are_counted(model, tmp_path, capsys):
    for name in ("b.wav", "._a.wav", ".hidden/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no sound at all")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "link.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "circle.wav").symlink_to(tmp_path / "circle.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    soundfile.write(os.fsencode(tmp_path) + b"/caf\xe9.wav", tone(0.5), RATE)
    soundfile.write(tmp_path / "z.wav", tone(0.5), RATE)
    absent = tmp_path / "absent.wav"
    assert classify.main([str(tmp_path), str(absent), "--model", str(model)]) == 1
    streams = capsys.readouterr()
    assert [line.split("\t")[:2] for line in streams.out.splitlines()] == [
        [str(tmp_path / "z.wav"), "loud"]
    ]
    *lines, count = streams.err.splitlines()
    reasons = (
        "b.wav: cannot be read as audio",
        r"caf\xe9.wav: the name is not UTF-8; rename it",
        "circle.wav: Too many levels of symbolic links",
        "link.wav: No such file or directory",
        "pipe.wav: is no regular file",
        "absent.wav: No such file or directory",
    )
    assert len(lines) == len(reasons)
    assert all(reason in line for reason, line in zip(reasons, lines, strict=True))
    assert count.endswith("6 of 7 files could not be classified")


def test_a_folder_that_cannot_be_read_does_not_stop_the_others(
    model, tmp_path, monkeypatch, capsys
):
    (tmp_path / "locked").mkdir()
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE)
    listed = os.scandir

    def refuse(folder):
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert classify.main([str(tmp_path), "--model", str(model)]) == 1
    streams = capsys.readouterr()
    assert "a.wav\tloud" in streams.out
    assert f"{tmp_path / 'locked'}: Permission denied\n" in streams.err


def test_ctrl_c_and_a_full_disk_end_the_command_with_one_line(model, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE)
    command = [sys.executable, "-m", "students.classify", str(tmp_path), "--model", model]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (1, f"{classify.PROGRAM}: No space left on device\n")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(seconds, "read_clips", interrupt)
    assert classify.main([str(tmp_path), "--model", str(model)]) == classify.INTERRUPTED
    assert capsys.readouterr().err == f"\n{classify.PROGRAM}: interrupted\n"


def test_a_closed_pipe_ends_the_command_quietly(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5), RATE)
    command = [sys.executable, "-m", "students.classify", "--model", model]
    files, pipe = [tmp_path / "a.wav"] * 50, subprocess.PIPE
    with subprocess.Popen([*command, *files], cwd=ROOT, stdout=pipe, stderr=pipe) as running:
        assert running.stdout.readline().endswith(b"loud\t1.000\n")
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == classify.PIPE_CLOSED


def test_raw_sound_is_classified_second_by_second(model, monkeypatch, capsys):
    sound = np.concatenate([tone(0.5), tone(0.01), tone(0.5, seconds=0.5)])
    assert live(monkeypatch, as_pcm(sound), "--sample-rate", RATE, "--model", model) == 0
    assert [line[:2] for line in said(capsys)] == [["1", "loud"], ["2", "quiet"]]


def test_raw_stereo_at_another_rate_is_mixed_and_resampled(model, monkeypatch, capsys):
    left = np.concatenate([tone(0.5, 16_000), tone(0.0, 16_000, 1.1)])
    content = as_pcm(np.stack([left, -left], axis=1))
    options = ("--sample-rate", 16_000, "--channels", 2, "--model", model)
    assert live(monkeypatch, content, *options) == 0
    # Channels that cancel each other out are silence.
    assert [line[1] for line in said(capsys)] == ["quiet", "quiet"]


def test_the_rate_of_a_wav_stream_is_in_its_header(model, monkeypatch, capsys):
    file = io.BytesIO()
    soundfile.write(file, tone(0.5, 16_000, 2.1), 16_000, subtype="PCM_16", format="WAV")
    # As a program writes it that does not know the length in advance.
    content = bytearray(file.getvalue())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)
    assert live(monkeypatch, bytes(content), "--model", model) == 0
    assert [line[1] for line in said(capsys)] == ["loud", "loud"]


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.0, 3.4])
def test_a_stream_gets_the_decisions_of_the_same_sound_as_a_file(
    model, monkeypatch, capsys, tmp_path, rate, seconds
):
    # Only the last second is loud, and what follows the samples would be.
    sound = tone(0.01, rate, seconds)
    sound[-round(min(seconds, 1.0) * rate) :] += tone(0.4, rate, min(seconds, 1.0))
    behind = b"LIST" + struct.pack("<I", 40_000) + b"\x7f" * 40_000
    file = tmp_path / "a.wav"
    soundfile.write(file, sound, rate, subtype="PCM_16")
    file.write_bytes(file.read_bytes() + behind)
    student = load_exported(model)
    clips_BS = read_clips(file, RATE, RATE)
    expected = [CLASSES[student.compute_logits(clip_S[None])[0].argmax()] for clip_S in clips_BS]
    assert live(monkeypatch, file.read_bytes(), "--model", model) == 0
    assert [line[1] for line in said(capsys)] == expected
    assert len(expected) == max(1, int(seconds))


def test_in_a_terminal_there_is_a_bar_for_each_scene(model, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    sound = as_pcm(np.concatenate([tone(0.5), tone(0.01)]))
    assert live(monkeypatch, sound, "--sample-rate", RATE, "--model", model) == 0
    first, second = capsys.readouterr().out.split("\x1b[2A")
    assert [line.split()[0] for line in first.splitlines()] == list(CLASSES)
    assert first.splitlines()[0].count("█") == 0
    assert first.splitlines()[1].count("█") == BAR_WIDTH
    assert second.splitlines()[0].count("█") == BAR_WIDTH


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0" * 100, "no WAV stream: give --sample-rate"),
        (b"RIFF", "ends within its WAV header"),
        (
            struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 3, 1, RATE, 0, 4, 32),
            r"1 channel\(s\) of 32 bits in format 3",
        ),
        (
            struct.pack(
                "<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 4_000_000_000, 0, 2, 16
            )
            + struct.pack("<4sI", b"data", 0),
            "says 4,000,000,000 Hz, expected 1,000 to 384,000",
        ),
        (
            struct.pack(
                "<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 65_535, RATE, 0, 2, 16
            )
            + struct.pack("<4sI", b"data", 0),
            "says 65,535 channels, expected 1 to 1,024",
        ),
        (struct.pack("<4sI4s4sI", b"RIFF", 0, b"WAVE", b"data", 0), "samples before its format"),
        (
            struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, RATE, 0, 2, 16)
            + struct.pack("<4sI", b"data", 0),
            "holds no samples",
        ),
    ],
)
def test_a_stream_of_another_kind_is_refused(model, monkeypatch, capsys, content, message):
    assert live(monkeypatch, content, "--model", model) == 1
    assert re.search(message, capsys.readouterr().err)


def test_files_that_cannot_be_used_are_refused(model, tmp_path, capsys):
    takes_log_mels = write_model(tmp_path / "log_mels.onnx", takes_waveforms=False)
    bare = tmp_path / "bare.onnx"
    stripped = onnx.load(model)
    del stripped.metadata_props[:]
    onnx.save(stripped, bare)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(Path(model).read_bytes().replace(b'["quiet"', b'\x1b"quiet"'))
    other = write_model(tmp_path / "other.onnx", clip_samples=RATE + 1)
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "empty").mkdir()
    cases = [
        (takes_log_mels, "x.wav", "export it again with --with-front-end"),
        (bare, "x.wav", "its metadata has no classes"),
        (damaged, "x.wav", "its metadata is damaged (Expecting value: "),
        (other, "x.wav", "but its metadata says 8001 samples and 2 classes"),
        (tmp_path / "text.onnx", "x.wav", "ONNX Runtime cannot load it"),
        (
            tmp_path / "absent.onnx",
            "x.wav",
            "absent.onnx: No such file or directory: name an exported",
        ),
        (model, str(tmp_path / "empty"), "no sound file in this folder"),
    ]
    for file, sound, message in cases:
        assert classify.main([sound, "--model", str(file)]) == 1
        assert message in capsys.readouterr().err
    assert classify.main(["-", "x.wav", "--model", str(model)]) == 1
    assert "expected alone" in capsys.readouterr().err


def test_a_device_needs_only_onnxruntime_numpy_soundfile_and_soxr(model, tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(0.5, 44_100), 44_100)
    # What docs/device.md names; other files of the project are not there.
    parts = [ROOT / "students" / f"{name}.py" for name in ("__init__", "runtime", "smoothing")]
    folders = ("audio/*.py", "disk/*.py", "students/classify/*.py")
    for file in (*parts, *(file for folder in folders for file in ROOT.glob(folder))):
        copy = tmp_path / "device" / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    program = f"""
import runpy, sys
allowed = {{
    *("numpy", "onnxruntime", "soundfile", "_soundfile", "_soundfile_data"),
    *("soxr", "students", "audio", "disk"),
}}
before = set(sys.modules)
sys.argv = ["classify", {str(tmp_path / "a.wav")!r}, "--model", {str(model)!r}]
try:
    runpy.run_module("students.classify", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0, ended.code
names = {{name.partition(".")[0] for name in set(sys.modules) - before}}
of_soundfile = {{"cffi", "_cffi_backend", "typing_extensions"}}
print(sorted(names - allowed - of_soundfile - set(sys.stdlib_module_names)))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "device",
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines()[0].endswith("loud\t1.000")
    assert ended.stdout.splitlines()[1] == "[]"


@pytest.mark.parametrize("rate", [44_100, 48_000, 16_000, RATE])
def test_a_device_resamples_as_training_decodes(tmp_path, rate):
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(0.3, rate) + tone(0.2, rate, hertz=2_500.0), rate, subtype="FLOAT")
    decoded_S = decode_file(file, RATE, 1.0).samples_S
    heard_BS = read_clips(file, RATE, RATE)
    # Decoding for training keeps 16 bits.
    np.testing.assert_array_equal(np.rint(32768 * heard_BS[0]), decoded_S)


def test_tones_above_the_lower_rate_are_gone(tmp_path):
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(0.9, 44_100, hertz=18_000.0), 44_100, subtype="FLOAT")
    assert np.abs(read_clips(file, 32_000, 32_000)[0, 800:-800]).max() < 1e-4


@pytest.mark.parametrize("n_blocks", [3, 211])
def test_sound_is_resampled_in_blocks_as_at_once(tmp_path, n_blocks):
    file = tmp_path / "a.wav"
    sound = 0.1 * np.random.default_rng(0).standard_normal(11_025).astype(np.float32)
    soundfile.write(file, sound, 11_025, subtype="FLOAT")
    blocks = np.array_split(sound, n_blocks)
    in_blocks = np.concatenate(list(resample_blocks(blocks, 11_025, RATE)))
    np.testing.assert_array_equal(in_blocks, read_clips(file, RATE, RATE)[0])


def test_a_resampled_stream_of_just_a_clip_is_classified(model, monkeypatch, capsys):
    options = ("--sample-rate", 16_000, "--model", model)
    assert live(monkeypatch, as_pcm(tone(0.5, 16_000)), *options) == 0
    assert [line[:2] for line in said(capsys)] == [["1", "loud"]]


def test_minutes_of_sound_take_no_gigabytes(tmp_path):
    file = tmp_path / "a.wav"
    soundfile.write(file, np.zeros(20 * 44_100, dtype=np.float32), 44_100)
    tracemalloc.start()
    read_clips(file, 32_000, 32_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The samples are 3.5 MB at the first rate and 2.6 MB at the second.
    assert peak < 20e6
