"""Puts the project's root on the path in place of jobs/.

`python jobs/teachers.py` puts jobs/ first on the path, where jobs/teachers.py would hide the
package `teachers`. Each command imports this file first, by its bare name, which works only then.
"""

import sys
from pathlib import Path

_JOBS = Path(__file__).resolve().parent
_elsewhere = [p for p in sys.path if Path(p or ".").resolve() not in (_JOBS, _JOBS.parent)]
sys.path[:] = [str(_JOBS.parent), *_elsewhere]
