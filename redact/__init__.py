"""Secrets stay out of what is kept and said."""

from redact.text import redact_secrets, strip_secrets

__all__ = ["redact_secrets", "strip_secrets"]
