"""Students in C on this computer; those on a Cortex-M are slow, in test_cortex_m.py."""

import re
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hand_made_students import CLASSES, need, write_hand_made, write_reference
from tiny import RATE

from audio import waveforms
from students.device import run
from students.device.__main__ import main
from students.device.boards import BOARDS
from students.device.build import build_program
from students.device.chips import CHIPS, find_fitting
from students.device.measure import DeviceMeasurements, measure_device
from students.device.options import DeviceOptions, UnfitDevice
from students.device.readme import note_measurements
from students.device.run import run_clips

MEASURED = DeviceMeasurements(
    has_several_labels=False,
    board="m4",
    flash_bytes=96_000,
    static_bytes=99_000,
    stack_bytes=600,
    front_end_spent=20_000_000,
    spent=90_000_000,
    compared_clips=50,
    max_difference=0.0,
    agreement=1.0,
    judged_clips=20,
    accuracy=0.7,
    reference_accuracy=0.7,
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """The folder of the corpus's decoded clips, and of the reference's decoded ones."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def options(corpus, cache, tmp_path, monkeypatch):
    """Make the options of a run, on this computer, of a student that is written by hand."""
    monkeypatch.setenv("TUTTI_CACHE", str(cache))

    def make(*, has_front_end=False, **changed):
        student = write_hand_made(tmp_path / "by_hand", has_front_end=has_front_end)
        settings = {"board": "host", "corpus": "tau", "root": corpus.root, "clips": 4} | changed
        return DeviceOptions(student=student, **settings)

    return make


@pytest.mark.parametrize("has_front_end", [False, True], ids=["log-mels", "samples"])
def test_a_student_that_computes_what_its_reference_does_agrees_bit_for_bit(options, has_front_end):
    need("gcc")
    told = []
    measured = measure_device(
        options(has_front_end=has_front_end), lambda *progress: told.append(progress)
    )
    assert measured.max_difference == 0
    assert measured.agreement == 1
    assert (measured.compared_clips, measured.judged_clips) == (8, 4)
    assert measured.accuracy == measured.reference_accuracy
    assert measured.stack_bytes is None
    assert (measured.front_end_spent > 0) == has_front_end
    assert {doing for doing, _, _ in told} == {"reference", "host"}
    assert told[-1] == ("host", 8, 8)


def test_a_student_that_computes_something_else_is_found_out(options):
    need("gcc")
    changed = options()
    text = changed.student.read_text()
    changed.student.write_text(text.replace("* 0.0625f", "* (k ? 0.0625f : 9.0f)"))
    measured = measure_device(changed)
    assert measured.max_difference > 1
    assert measured.agreement < 1


def test_the_command_prints_parity_and_accuracy(options, corpus, capsys):
    need("gcc")
    made = options()
    words = [str(made.student), "--board", "host", "--corpus", "tau", "--root", str(corpus.root)]
    assert main([*words, "--clips", "2"]) == 0
    printed = capsys.readouterr().out
    assert "compared with ONNX Runtime on 4 clips: 100.0 % in the same class" in printed
    assert "macro accuracy on the 2 select clips" in printed
    assert " ms here" in printed


def test_the_costs_of_a_board_are_said_with_what_it_fits():
    said = MEASURED.describe(168)
    for part in (
        "flash: 96,000 bytes",
        "RAM: 99,000 bytes static, 600 of stack",
        "instructions of the worst clip: 90,000,000, of which the front-end 20,000,000",
        "at 168 MHz: 535.7 ms",
        "fits: STM32L4R5, STM32F446, STM32F407, STM32F411, nRF52840\n",
    ):
        assert part in said


def test_where_clips_have_several_labels_a_board_is_judged_by_map():
    said = replace(MEASURED, has_several_labels=True).describe(168)
    assert "100.0 % of the classes of clips decided alike" in said
    assert "mAP on the 20 select clips: 70.0 %" in said
    assert "accuracy" not in said


def test_a_student_of_clips_with_several_labels_is_not_judged_by_one_a_clip(options):
    need("gcc")
    made = options()
    write_reference(made.student.parent, has_front_end=False, has_several_labels=True)
    with pytest.raises(
        UnfitDevice, match=r"clips of corpus .* have one label each, which is not so"
    ):
        measure_device(made)


def test_an_arena_fits_only_where_it_lies_in_one_part():
    (gapped,) = (chip for chip in CHIPS if chip.name == "STM32F407")
    assert gapped in find_fitting("m4", 100_000, 128 * 1024)
    assert gapped not in find_fitting("m4", 100_000, 128 * 1024 + 1)
    assert not list(find_fitting("m4", 10**7, 1_000))


def test_a_board_s_line_is_written_into_the_folder_s_readme_once(tmp_path):
    student = write_hand_made(tmp_path / "by_hand", has_front_end=True)
    readme = student.parent / "README.md"
    before = readme.read_text()
    for board in ("m4", "m3", "m4"):
        assert note_measurements(student.parent, replace(MEASURED, board=board)) == readme
    text = readme.read_text()
    assert text.startswith(before.rstrip())
    line = "| 96,000 | 99,000 | 600 | 90,000,000 | 20,000,000 | 100.0 % | 0 |\n"
    assert text.endswith(f"| Cortex-M3 {line}| Cortex-M4 {line}")
    assert text.count("| Cortex-M4 |") == 1


def test_nothing_is_noted_of_this_computer_or_where_no_heading_waits_for_it(tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    assert note_measurements(tmp_path, MEASURED) is None
    assert note_measurements(tmp_path / "nothing", MEASURED) is None
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


ARM_TOOLS = ("arm-none-eabi-gcc", "qemu-system-arm", "arm-none-eabi-size")


@pytest.mark.parametrize(
    ("board", "tools", "message"),
    [
        ("m7", (), "arm-none-eabi-gcc is not installed: on Debian or Ubuntu, sudo apt-get install"),
        ("m7", ("arm-none-eabi-gcc",), "qemu-system-arm is not installed"),
        ("m4", ARM_TOOLS[:2], "arm-none-eabi-size is not installed"),
        ("m4", ARM_TOOLS, "libc.a of newlib is not installed"),
        ("host", (), "gcc is not installed: .* gcc libc6-dev"),
    ],
)
def test_what_is_not_installed_is_one_line_with_the_packages(
    options, tmp_path, monkeypatch, board, tools, message
):
    (tmp_path / "bin").mkdir()
    for tool in tools:
        (tmp_path / "bin" / tool).write_text("#!/bin/sh\necho libc.a\n")
        (tmp_path / "bin" / tool).chmod(0o755)
    made = options(board=board)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    with pytest.raises(UnfitDevice, match=message) as raised:
        measure_device(made)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "student.onnx").unlink(), "student.onnx: is missing"),
        (lambda folder: (folder / "student.h").unlink(), "student.h: is missing"),
        (lambda folder: (folder / "student.onnx").write_bytes(b"x"), "ONNX Runtime cannot load it"),
        (
            lambda folder: write_reference(folder, has_front_end=True),
            "only one of them has a front-end",
        ),
        (
            lambda folder: write_reference(folder, has_front_end=False, member="other"),
            "student.onnx: is other, and student.h is of by_hand",
        ),
        (
            lambda folder: write_reference(folder, has_front_end=False, front_end={"n_fft": 3}),
            "its metadata is damaged",
        ),
        (
            lambda folder: write_reference(folder, has_front_end=False, corpus="demo"),
            "a student of corpus demo .* and --corpus is tau",
        ),
        (
            lambda folder: (folder / "student.c").write_text("int student\n"),
            "gcc cannot build .*student.c for .*error: .*: export the student again",
        ),
    ],
)
def test_a_damaged_folder_is_one_line(options, capsys, damage, message):
    need("gcc")
    made = options()
    damage(made.student.parent)
    words = [str(made.student), "--board", "host", "--corpus", "tau", "--root", str(made.root)]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m students.device: ")
    assert error.count("\n") == 1
    assert re.search(message, error)


def test_another_file_than_the_student_is_refused(options):
    made = options()
    made = replace(made, student=made.student.with_name("main.c"))
    with pytest.raises(UnfitDevice, match=r"main.c: expected the student.c of an exported folder"):
        measure_device(made)


def test_a_program_that_ends_early_or_is_stuck_is_an_error(tmp_path, monkeypatch):
    need("gcc")
    student = write_hand_made(tmp_path / "by_hand", has_front_end=True)
    monkeypatch.setattr(run, "SILENT_S", 0.2)
    text = student.read_text()
    for ending, message in (
        ("abort();", "ended after 0 of 1 clips"),
        ("for (;;);", "stuck behind"),
    ):
        head = "#include <stdlib.h>\n"
        student.write_text(head + text.replace("state *s = arena;", f"state *s = arena; {ending}"))
        into = tmp_path / ending[:3]
        into.mkdir()
        program = build_program(student.parent, BOARDS["host"], into)
        with pytest.raises(UnfitDevice, match=message):
            run_clips(program, BOARDS["host"], [bytes(2 * RATE)], len(CLASSES), into)


def test_the_host_s_program_names_the_class_of_a_wav_file(tmp_path, corpus, cache):
    need("gcc", "make")
    student = write_hand_made(tmp_path / "by_hand", has_front_end=True)
    subprocess.run(["make", "-s", "CC=gcc -Werror -Wpedantic"], cwd=student.parent, check=True)
    decoded = waveforms.decode_corpus(corpus, RATE, cache=cache).samples_NS
    stereo = np.repeat(np.concatenate([decoded[0], decoded[1]])[:, None], 2, axis=1)
    soundfile.write(tmp_path / "two.wav", stereo, RATE)
    soundfile.write(tmp_path / "short.wav", decoded[0][:300], RATE)
    soundfile.write(tmp_path / "fast.wav", decoded[0], 2 * RATE)
    soundfile.write(tmp_path / "float.wav", decoded[0] / 32768, RATE, subtype="FLOAT")
    names = ("two.wav", "short.wav", "fast.wav", "float.wav", "none.wav")
    done = subprocess.run(
        [student.parent / "student", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["two.wav", "0"], ["two.wav", "1"], ["short.wav", "0"]]
    assert lines[0][2:] == lines[2][2:]  # only the first samples are used, and silence follows
    assert {line[2] for line in lines} <= set(CLASSES)
    assert done.stderr.splitlines() == [
        "student: fast.wav: 16000 Hz, expected 8000: ffmpeg -i FILE -ar 8000 out.wav",
        "student: float.wav: no 16-bit PCM: ffmpeg -i FILE -c:a pcm_s16le out.wav",
        "student: none.wav: cannot be opened",
    ]


def test_the_host_s_program_takes_log_mels_of_a_student_without_a_front_end(tmp_path):
    need("gcc", "make")
    student = write_hand_made(tmp_path / "by_hand", has_front_end=False)
    subprocess.run(["make", "-s", "CC=gcc -Werror -Wpedantic"], cwd=student.parent, check=True)
    log_mels = np.random.default_rng(0).normal(size=(2, 24, 33)).astype(np.float32)
    log_mels.tofile(tmp_path / "two.bin")
    log_mels.ravel()[:-1].tofile(tmp_path / "cut.bin")
    done = subprocess.run(
        [student.parent / "student", "two.bin", "cut.bin"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["two.bin"] * 2 + [
        "cut.bin"
    ]
    assert "cut.bin: does not hold whole clips" in done.stderr
