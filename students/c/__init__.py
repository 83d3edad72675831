"""From a student in int8 to a program in C."""
