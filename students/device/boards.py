"""The boards that a student is run on here: processors that QEMU emulates, and this computer."""

from collections.abc import Mapping
from dataclasses import dataclass

from students.device.options import BoardName

ARM_PACKAGES = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
"""Debian's and Ubuntu's names."""
HOST_PACKAGES = "gcc libc6-dev"
_ALL_FLAGS = ("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra")
"""-ffp-contract=off: a fused multiply-add would round otherwise than the reference does.
-fno-math-errno: a square root is one instruction, and libc's kilobyte of RAM around errno stays out."""
_ARM_FLAGS = (
    *("-mthumb", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections"),
    *("-nostartfiles", "--specs=nosys.specs"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A processor, how a program for it is built, and what runs it."""

    processor: str
    """Its name for people."""
    compiler: str
    flags: tuple[str, ...]
    source: str
    """The C file of students/device/ that knows the board."""
    packages: str
    """Debian packages with the compiler and what else is needed."""
    machine: str | None = None
    """QEMU's name of a board with this processor; None is this computer."""
    mhz: int = 0
    """A usual clock of this processor; of no use on this computer, where time is measured."""


def _make_cortex_m(number: int, machine: str, mhz: int, *fpu: str) -> Board:
    return Board(
        processor=f"Cortex-M{number}",
        compiler="arm-none-eabi-gcc",
        flags=(f"-mcpu=cortex-m{number}", *fpu, *_ARM_FLAGS, *_ALL_FLAGS),
        source="board_qemu.c",
        packages=ARM_PACKAGES,
        machine=machine,
        mhz=mhz,
    )


BOARDS: Mapping[BoardName, Board] = {
    # The M7 of an STM32F746 has a floating point unit for single precision only: so all are built.
    "m7": _make_cortex_m(7, "mps2-an500", 480, "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    "m4": _make_cortex_m(4, "mps2-an386", 168, "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "m3": _make_cortex_m(3, "mps2-an385", 100),
    "host": Board(
        processor="this computer",
        compiler="gcc",
        flags=_ALL_FLAGS,
        source="board_host.c",
        packages=HOST_PACKAGES,
    ),
}
