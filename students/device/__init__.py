"""A student in C on a board: built, run on an emulated Cortex-M, and compared with its reference."""
