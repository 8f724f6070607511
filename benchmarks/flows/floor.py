"""The floor for keep_array: the same array made, hashed, written, synced, mapped back and summed, in one plain script."""

import hashlib
import mmap
import os
import tempfile
import threading
from pathlib import Path

import numpy as np

array = np.random.default_rng(0).random(25_000_000)
with tempfile.NamedTemporaryFile(dir=Path.cwd()) as file:
    hashing = threading.Thread(target=lambda: hashlib.sha256(array).digest())
    hashing.start()
    file.write(array.data)
    file.flush()
    hashing.join()
    os.fsync(file.fileno())
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        again = np.frombuffer(mapped)
        print(float(again.sum()))
        del again
