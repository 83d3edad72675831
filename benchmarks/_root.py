"""Puts the project's root on the path in the place of benchmarks/, where log_mel.py would hide others.

Every benchmark imports this file first, by its bare name, which works when it is run by its path.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_elsewhere = [p for p in sys.path if Path(p or ".").resolve() not in (_HERE, _HERE.parent)]
sys.path[:] = [str(_HERE.parent), *_elsewhere]
