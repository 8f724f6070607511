"""Files that commands write: whole, or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from stillrun_engine.errors import EngineError

__all__ = ["whole_file"]


@contextmanager
def whole_file(out: Path) -> Iterator[BinaryIO]:
    """A file beside ``out`` that takes its name when the block has written all of it, and goes when it has not."""
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, delete=False) as file:
            try:
                yield cast(BinaryIO, file)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).chmod(0o666 & ~_umask())
        Path(file.name).replace(out)
    except OSError as err:
        raise EngineError(f"cannot write {out}: {err.strerror}.") from err


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
