"""What a result was made with: commit, versions, machine."""

import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PROJECT = Path(__file__).resolve().parent.parent
COMMIT_VARIABLE = "TUTTI_COMMIT"
"""Holds the commit if the code runs from an upload without its git history."""
LIBRARIES = ("torch", "torchaudio", "numpy", "ray", "hear21passt", "pyarrow")


def find_commit() -> str | None:
    """Return the commit of the running code, with "+changes" if the tree has uncommitted ones.

    It is None if the commit is unknown.
    """
    commit = os.environ.get(COMMIT_VARIABLE)
    if commit or not (PROJECT / ".git").exists():
        return commit
    try:
        commit = _run_git("rev-parse", "HEAD")
        # Markdown is not code: a benchmark that wrote its results has not changed what it measured.
        changes = _run_git(
            "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)*.md"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def describe_provenance(device: "torch.device") -> dict[str, object]:
    """Return commit, library versions and machine, for a record."""
    # It takes longer to import than the rest of this module.
    import importlib.metadata

    return {
        "commit": find_commit(),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "machine": describe_machine(device),
    }


def describe_machine(device: "torch.device") -> dict[str, Any]:
    """Return this machine, with the part of it that computes."""
    import torch

    return {
        "host": socket.gethostname(),
        "processor": platform.machine(),
        "accelerator": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def _run_git(*arguments: str) -> str:
    command = ["git", "-C", str(PROJECT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
