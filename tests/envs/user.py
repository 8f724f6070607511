"""Uses the environment of a lock until it is killed or its input ends: user.py STORE LOCK."""

from __future__ import annotations

import sys
from pathlib import Path

from stillrun_envs.prefix import prefix_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

with Store.open(Path(sys.argv[1])) as store:
    prefix = prefix_for(Digest.parse(sys.argv[2]), store)
    print(prefix.path, flush=True)
    sys.stdin.read()
