"""The commands. Only this package and `cluster` import Ray, and only they know all other packages."""

import os
from pathlib import Path

from disk import equip_user, has_home

equip_user()
TOKEN = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
if has_home():
    TOKEN = TOKEN.expanduser()
OBJECT_STORE_BYTES = 2 * 1024**3
"""Largest object store of a cluster that a job starts itself: it holds the logits that selections
share."""

# Ray reads these when it is imported. Merging log lines would hide progress. A task without a GPU
# shall not warn that it still sees GPUs. Without a mode, a client does not look for its token.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", str(OBJECT_STORE_BYTES))
if "RAY_AUTH_TOKEN" in os.environ or TOKEN.is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")
