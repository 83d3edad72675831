"""A stored student as a file for other runtimes, and what it is worth there."""
