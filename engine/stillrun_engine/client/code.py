"""The captured code of a run, as the client shows it."""

from __future__ import annotations

import tarfile
import tempfile
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

from stillrun_engine.client.session import Record
from stillrun_snapshot.archive import write_tar
from stillrun_snapshot.checkout import checkout, export_tree
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import Store

__all__ = ["Code"]


class Code:
    """The code of a run: its files, and what is known of them."""

    def __init__(self, store: Store, run: Record) -> None:
        self._store = store
        self._run = run
        self._record: Record = store.get_record(Digest(run["code"]), "code")

    @property
    def script_name(self) -> str:
        """Path of the flow file in the captured folder."""
        return str(self._record["flow_file"])

    @cached_property
    def path(self) -> str:
        """The folder in which the files are laid out; it is shared, and not to be written to."""
        return str(checkout(self._store, Digest(self._record["tree"])))

    @property
    def flowspec(self) -> str:
        """The text of the flow file."""
        return (Path(self.path) / self.script_name).read_text("utf-8", "replace")

    @property
    def info(self) -> dict[str, Any]:
        """What is known of the code: the record stillrun/code/1, who ran it and where."""
        machine = self._run["machine"]
        known = {"script": self.script_name, "username": self._run["user"], "platform": machine.get("system")}
        return {**self._record, **known, "runtime": "dev"}

    @property
    def tarball(self) -> tarfile.TarFile:
        """The files as an archive in memory."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "code.tar"
            write_tar(self._store, Digest(self._record["tree"]), file)
            data = BytesIO(file.read_bytes())
        return tarfile.open(fileobj=data)

    def extract(self) -> tempfile.TemporaryDirectory[str]:
        """A temporary folder with a copy of the files in it; it is removed with the object that is returned."""
        folder = tempfile.TemporaryDirectory()
        export_tree(self._store, Digest(self._record["tree"]), Path(folder.name))
        return folder

    def __repr__(self) -> str:
        return f"<code of {self._run['flow']}/{self._run['run']}: {self.script_name}>"
