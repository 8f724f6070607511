"""Removes every environment that may be removed, again and again: collector.py STORE TIMES."""

from __future__ import annotations

import sys
from pathlib import Path

from stillrun_envs.upkeep import collect
from stillrun_snapshot.store import Store

with Store.open(Path(sys.argv[1])) as store:
    print(sum(len(collect(store, keep_bytes=0).removed) for _ in range(int(sys.argv[2]))), flush=True)
