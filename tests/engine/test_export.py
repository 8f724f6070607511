"""Artifacts written as one pickle without unpickling anything."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillrun_engine.export import write_pickle
from stillrun_snapshot.store import Store


def kept(store: Store, value: object) -> dict[str, Any]:
    """An artifact record of ``value`` with every buffer as a part of its own."""
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [store.put(stream), *(store.put(buffer.raw()) for buffer in buffers)]
    return {"parts": [{"digest": part, "size": store.size(part)} for part in parts]}


def through(store: Store, value: object) -> Any:
    out = io.BytesIO()
    write_pickle(store, kept(store, value), out)
    return pickle.loads(out.getvalue())


def test_arrays_come_back_whole_and_writable(tmp_path: Path) -> None:
    big, fixed = np.arange(100_000.0), np.ones(3)
    fixed.setflags(write=False)
    with Store.open(tmp_path / "store") as store:
        value = through(store, {"big": big, "again": big, "fixed": fixed, "text": "ü" * 100_000})
    assert (value["big"] == big).all()
    assert value["big"].flags.writeable
    assert value["again"] is value["big"]
    assert (value["fixed"] == fixed).all()


@given(st.lists(st.one_of(st.binary(max_size=300), st.integers(), st.text()), max_size=20))
def test_what_is_written_loads_as_what_was_kept(values: list[object]) -> None:
    """Law: load(write(kept(x))) == x, with any mix of buffers inside and outside of the stream."""
    import tempfile

    mixed = [pickle.PickleBuffer(v) if isinstance(v, bytes) else v for v in values]
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store") as store:
        assert [bytes(v) if isinstance(v, (bytes, bytearray)) else v for v in through(store, mixed)] == values
