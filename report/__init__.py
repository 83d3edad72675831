"""From results to what a person looks at. The only place that reads the test fold."""

from report.summary import System, compare, summary

__all__ = ["System", "compare", "summary"]
