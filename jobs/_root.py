"""Puts the project's root on the path in place of jobs/.

`python jobs/teachers.py` puts jobs/ first on the path, where jobs/teachers.py would hide the
package `teachers`. Each command imports this file first, by its bare name, which works only then.

Until the command handles signals itself, which takes a second, Ctrl-C ends it without a traceback.
"""

import signal
import sys
from pathlib import Path

_JOBS = Path(__file__).resolve().parent
_elsewhere = [p for p in sys.path if Path(p or ".").resolve() not in (_JOBS, _JOBS.parent)]
sys.path[:] = [str(_JOBS.parent), *_elsewhere]

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
