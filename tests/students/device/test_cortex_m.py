"""Programs on QEMU's Cortex-M7, M4 and M3. All figures are exact for a compiler: only bars are asserted."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from c_students import needs_vnni
from hand_made_students import CLASSES, need, write_hand_made
from tiny import RATE

from students.device.boards import BOARDS
from students.device.build import build_program
from students.device.measure import measure_device
from students.device.options import DeviceOptions, UnfitDevice
from students.device.run import run_clips

CORTEX_M = [name for name, board in BOARDS.items() if board.machine]
SILENCE = bytes(2 * RATE)
PUSH = "state *s = arena;"
"""A line of the hand-made student that runs in each piece of a clip."""

pytestmark = [pytest.mark.slow, needs_vnni]


@pytest.fixture(autouse=True)
def tools():
    need("arm-none-eabi-gcc", "qemu-system-arm")


@pytest.fixture
def changed(tmp_path):
    """Run one clip of silence on a board, on a hand-made student with more C in its loop over pieces."""

    def run(board, code):
        folder = tmp_path / f"student{len(list(tmp_path.iterdir()))}"
        student = write_hand_made(folder, has_front_end=True)
        student.write_text(student.read_text().replace(PUSH, f"{PUSH} {code}"))
        into = folder / "built"
        into.mkdir()
        program = build_program(folder, BOARDS[board], into)
        return run_clips(program, BOARDS[board], [SILENCE], len(CLASSES), into)

    return run


@pytest.mark.parametrize("board", CORTEX_M)
@pytest.mark.parametrize("has_front_end", [False, True], ids=["log-mels", "samples"])
def test_a_student_agrees_bit_for_bit_on_every_board(
    board, has_front_end, corpus, tmp_path, monkeypatch
):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    student = write_hand_made(tmp_path / "by_hand", has_front_end=has_front_end)
    options = DeviceOptions(
        student=student, board=board, clips=2, corpus="tau", root=Path(corpus.root)
    )
    measured = measure_device(options)
    assert measured.max_difference == 0
    assert measured.agreement == 1
    assert measured.flash_bytes < 3_500
    assert measured.static_bytes < 1_024 + 100


@pytest.mark.parametrize("board", CORTEX_M)
def test_instructions_and_stack_are_counted_to_a_few(changed, board):
    # 100 pieces of a clip, and two instructions an iteration.
    loop = 'uint32_t n = 50000; __asm__ volatile("1: subs %0, #1\\n bne 1b" : "+r"(n) : : "cc");'
    stack = "volatile uint8_t used[4000]; used[0] = 1;"
    before, after = changed(board, ""), changed(board, loop + stack)
    spent = int(after.front_end_N[0] - before.front_end_N[0])
    assert spent == pytest.approx(100 * 2 * 50_000, abs=100 * 80)
    assert after.stack_bytes - before.stack_bytes == pytest.approx(4_000, abs=128)


def test_a_fault_of_the_processor_is_said(changed):
    with pytest.raises(UnfitDevice, match="after 0 of 1 clips, with exit code 70: stopped by a fa"):
        changed("m7", "*(volatile int *)0xF0000000 = (int)s->count;")


@pytest.mark.parametrize("core", CORTEX_M)
def test_the_folder_s_elf_names_the_class_of_a_file_as_the_host_s_program_does(
    tmp_path, core, corpus
):
    need("gcc", "make")
    student = write_hand_made(tmp_path / "by_hand", has_front_end=True)
    elf = student.parent / "student.elf"
    strict = "FLAGS=-std=c11 -O3 -Wall -Wextra -Werror"
    for target in ([], [elf.name, f"CORE={core}"]):
        subprocess.run(["make", "-s", strict, *target], cwd=student.parent, check=True)
    tone_S = 0.5 * np.sin(np.arange(2 * RATE))
    soundfile.write(tmp_path / "two.wav", tone_S, RATE)
    soundfile.write(tmp_path / "fast.wav", tone_S, 2 * RATE)
    clips = "enable=on,target=native,arg=student,arg=two.wav,arg=fast.wav"
    emulate = ["qemu-system-arm", "-M", BOARDS[core].machine, "-nographic"]
    said = [
        subprocess.run(
            words,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        for words in (
            [student.parent / "student", "two.wav", "fast.wav"],
            [*emulate, "-semihosting-config", clips, "-kernel", elf],
        )
    ]
    assert said[0].stdout.count("\n") == 2
    assert "16000 Hz, expected 8000" in said[0].stderr
    assert said[1].stdout == said[0].stdout
    assert said[1].stderr == said[0].stderr
    assert [each.returncode for each in said] == [1, 1]
