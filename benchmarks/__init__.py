"""One program a question, each `python benchmarks/NAME.py`; what they found is in RESULTS.md."""
