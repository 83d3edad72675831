"""What is written while jobs run, and read by `jobs/status.py`."""
