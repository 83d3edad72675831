"""A student as a program in C."""
