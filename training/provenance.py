"""What a result was made with: commit, versions, machine."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

PROJECT = Path(__file__).resolve().parent.parent
COMMIT_VARIABLE = "TUTTI_COMMIT"
"""Tells the commit where the code runs from an upload without its git history."""
LIBRARIES = ("torch", "torchaudio", "numpy", "ray", "hear21passt", "pyarrow")


def code_commit() -> str | None:
    """Commit of the running code, with "+changes" if the tree has others; None if unknown."""
    told = os.environ.get(COMMIT_VARIABLE)
    if told or not (PROJECT / ".git").exists():
        return told
    try:
        commit = _git("rev-parse", "HEAD")
        # Text is no code: a benchmark that wrote its results has not changed what it measured.
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)*.md")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def provenance(device: torch.device) -> dict[str, object]:
    """Commit, library versions and machine, for a record."""
    return {
        "commit": code_commit(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "machine": machine(device),
    }


def machine(device: torch.device) -> dict[str, Any]:
    """This machine, with what of it computes."""
    return {
        "host": socket.gethostname(),
        "processor": platform.machine(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
