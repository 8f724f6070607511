"""The least that WIDTH tasks can cost: a fork each, two at a time, whose value is hashed and written; no product at all."""

import hashlib
import os
import pickle

import stillrun  # noqa: F401  # what a flow has imported too


def task(item: int, out: int) -> None:
    data = pickle.dumps(item * 2, 5)
    os.write(out, hashlib.sha256(data).digest() + data)
    os._exit(0)


def main() -> None:
    out = os.open("bare_fork.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    running = 0
    for item in range(int(os.environ["WIDTH"])):
        if running == 2:
            os.wait()
            running -= 1
        if os.fork() == 0:
            task(item, out)
        running += 1
    for _ in range(running):
        os.wait()
    os.fsync(out)


main()
