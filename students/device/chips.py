"""Chips that people build devices with, and which of them a student fits.

Memory is in KiB of 1,024 bytes, as data sheets count it. RAM that has gaps between its parts counts
whole, but an arena has to lie in one part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from students.device.options import BoardName

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Chip:
    """A microcontroller, as its data sheet describes it."""

    name: str
    board: str
    """A board that many people have."""
    core: BoardName
    flash_kib: int
    """Of the chip; of the board where the chip has none."""
    ram_kib: int
    largest_kib: int
    """The largest part of RAM without a gap: the arena has to lie in it."""
    mhz: int


# From the summaries and memory maps of the makers' data sheets: DS12110 (H743), DS12556 (H750), DS10916
# (F746), DS11532 (F769), DS8626 (F407), DS10693 (F446), DS10314 (F411), DS10198 (L476), DS12023 (L4R5) of
# ST; the product specifications of the nRF52840 and nRF52832 of Nordic; the data sheets of the LPC1768 and
# of the i.MX RT1060 of NXP, and the technical page of the Teensy 4.1 of PJRC; Atmel-11057 (SAM3X).
CHIPS = (
    Chip("i.MX RT1062", "Teensy 4.1", "m7", 7936, 1024, 512, 600),
    Chip("STM32H743", "Nucleo-H743ZI", "m7", 2048, 1024, 512, 480),
    Chip("STM32H750", "STM32H750B-DK", "m7", 128, 1024, 512, 480),
    Chip("STM32F769", "STM32F769I-DISCO", "m7", 2048, 512, 512, 216),
    Chip("STM32F746", "Nucleo-F746ZG", "m7", 1024, 320, 320, 216),
    Chip("STM32L4R5", "Nucleo-L4R5ZI", "m4", 2048, 640, 640, 120),
    Chip("STM32F446", "Nucleo-F446RE", "m4", 512, 128, 128, 180),
    Chip("STM32F407", "STM32F407G-DISC1", "m4", 1024, 192, 128, 168),
    Chip("STM32F411", "Nucleo-F411RE", "m4", 512, 128, 128, 100),
    Chip("STM32L476", "Nucleo-L476RG", "m4", 1024, 128, 96, 80),
    Chip("nRF52840", "Arduino Nano 33 BLE", "m4", 1024, 256, 256, 64),
    Chip("nRF52832", "nRF52 DK", "m4", 512, 64, 64, 64),
    Chip("SAM3X8E", "Arduino Due", "m3", 512, 96, 96, 84),
    Chip("LPC1768", "mbed LPC1768", "m3", 512, 64, 32, 100),
)
OTHER_RAM_BYTES = 8 * _KIB
"""Left for what else a device does: its microphone's driver, interrupts, its own variables."""


def find_fitting(core: BoardName, flash_bytes: int, ram_bytes: int) -> Iterator[Chip]:
    """Yield the chips with this core that have room for a student.

    Args:
        core: its processor, as a board's name.
        flash_bytes: of the whole program.
        ram_bytes: variables and stack.
    """
    for chip in CHIPS:
        has_flash = flash_bytes <= chip.flash_kib * _KIB
        has_ram = ram_bytes + OTHER_RAM_BYTES <= chip.ram_kib * _KIB
        if chip.core == core and has_flash and has_ram and ram_bytes <= chip.largest_kib * _KIB:
            yield chip
