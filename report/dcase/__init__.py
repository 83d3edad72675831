"""Submissions to DCASE 2024 and 2025 task 1: made, and checked before the challenge does it."""
