"""Gives the entries of folders in another order than the file system does.

A script that nobody imports: vary.py makes it the sitecustomize of a replay.
"""

import os

_listdir, _scandir = os.listdir, os.scandir


def listdir(*arguments, **named):
    return _listdir(*arguments, **named)[::-1]


class scandir:  # noqa: N801  # it stands for os.scandir
    def __init__(self, *arguments, **named):
        with _scandir(*arguments, **named) as entries:
            self._entries = iter(list(entries)[::-1])

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._entries)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._entries = iter(())


os.listdir, os.scandir = listdir, scandir
