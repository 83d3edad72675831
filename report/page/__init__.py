"""Sections as one HTML page that needs nothing else, and as CSV files."""

from report.page.whole import page, write_csv

__all__ = ["page", "write_csv"]
