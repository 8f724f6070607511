"""The value of a kept artifact in this process: its bytes are hashed, then unpickled, because somebody asked for it here."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stillrun_engine.errors import EngineError
from stillrun_snapshot.checkout import checkout
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["value_of"]


def value_of(store: Store, parts: Sequence[bytes], code: Callable[[], Mapping[str, Any]], name: str) -> Any:
    """Unpickle an artifact of these parts. code: gives the record of its run's code, whose modules serve where none are here.

    Raises EngineError when a class or a library that it needs is not here.
    """
    stream, *buffers = parts
    try:
        return _loaded(stream, buffers)
    except (ImportError, AttributeError):
        pass
    try:
        with _modules_of(store, code()):
            return _loaded(stream, buffers)
    except (ImportError, AttributeError) as err:
        raise EngineError(
            f"{name} cannot be loaded here ({err}); 'stillrun debug' opens its task in the environment that it was made in."
        ) from err


def _loaded(stream: bytes, buffers: list[bytes]) -> Any:
    return pickle.loads(stream, buffers=map(bytearray, buffers))  # noqa: S301  # its bytes are those that the run kept


@contextmanager
def _modules_of(store: Store, code: Mapping[str, Any]) -> Iterator[None]:
    """The run's own modules can be imported within; a flow file is imported as a module and not run."""
    from stillrun.flow import is_library, run_as_library
    from stillrun.metaflow_names import serve_metaflow

    if not is_library():
        run_as_library()
    serve_metaflow()
    folder = str((checkout(store, Digest(code["tree"])) / Path(code["flow_file"])).parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
