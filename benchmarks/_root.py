"""Replaces benchmarks/ on the path by the project's root, as its modules would hide others.

Every benchmark that is run by its path imports this file first, by its bare name.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_elsewhere = [p for p in sys.path if Path(p or ".").resolve() not in (_HERE, _HERE.parent)]
sys.path[:] = [str(_HERE.parent), *_elsewhere]
