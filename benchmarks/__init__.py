"""Benchmarks: `python benchmarks/NAME.py` answers one question and writes it into RESULTS.md."""
