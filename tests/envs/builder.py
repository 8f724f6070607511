"""Builds the environment of a lock in a process of its own: builder.py STORE LOCK. Tells what it does as it does it."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from stillrun_envs.prefix import prefix_for
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

with Store.open(Path(sys.argv[1])) as store:
    prefix = prefix_for(Digest.parse(sys.argv[2]), store, progress=partial(print, flush=True))
    print(prefix.path, prefix.tree)
