"""Runs command lines and prints which large packages each of them has imported, as JSON.

Each command runs in a fork of this process, which has imported small packages only: to start Python
and to import these takes longer than most commands.
"""

import contextlib
import importlib
import io
import json
import multiprocessing
import runpy
import sys
from pathlib import Path
from typing import Any

SMALL = ("numpy", "pyarrow", "pydantic", "rich", "tyro")
LARGE = ("ray", "torch")


def imports_of(words: list[str]) -> dict[str, Any]:
    """Run `python SCRIPT ...` or `python -m MODULE ...` in this process, without the word `python`.

    Returns:
        Its exit code, the large packages that it imported, and what it printed.
    """
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            _run(words)
        except SystemExit as ended:
            code = ended.code or 0
    imported = [name for name in LARGE if name in sys.modules]
    return {"code": code, "imported": imported, "printed": printed.getvalue()}


def _run(words: list[str]) -> None:
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    for package in SMALL:
        importlib.import_module(package)
    assert not set(LARGE) & sys.modules.keys()
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        json.dump(pool.map(imports_of, json.load(sys.stdin), chunksize=1), sys.stdout)
