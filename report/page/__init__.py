"""Sections as one HTML page that needs nothing else, and as CSV files."""

from report.page.whole import render_page, write_csv

__all__ = ["render_page", "write_csv"]
