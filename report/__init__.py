"""From results to pages and tables for people. The only package that reads the test fold."""
