"""The keys of one user: secrets in a folder of theirs or in the system's keyring, never in a store. Format: docs/spec/keys.md."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from stillrun_snapshot._disk import write_atomically, writing
from stillrun_snapshot.clock import Clock, timestamp, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.ed25519 import KeyUnsound, PrivateKey
from stillrun_snapshot.errors import StillrunError

__all__ = ["KeyMissing", "OwnKey", "OwnKeys", "Place"]

Place = Literal["file", "keyring"]
_SCHEMA = "stillrun/own-key/1"
_SERVICE = "stillrun"


class KeyMissing(StillrunError):
    """A key was asked for that this user does not have."""


@dataclass(frozen=True)
class OwnKey:
    """What is known of a key without its secret."""

    keyid: str
    holder: str
    created: str
    place: Place


class OwnKeys:
    """The folder of a user's keys; it need not exist."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def new(self, holder: str, *, place: Place = "file", clock: Clock = utc_now) -> PrivateKey:
        """Make a key and keep its secret; nobody else may read it."""
        key = PrivateKey.new()
        with writing(self.folder, "folder of keys"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if place == "keyring":
                _keyring().set_password(_SERVICE, key.keyid, key.pem)
            else:
                _write_secret(self._path(key.keyid), key.pem)
            facts = {"schema": _SCHEMA, "holder": holder, "created": timestamp(clock()), "place": place}
            data = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()
            write_atomically(self.folder / f"{key.keyid}.json", data, durable=True)
        return key

    def all(self) -> Iterator[OwnKey]:
        """Yield the user's keys, oldest first."""
        found = []
        for path in self.folder.glob("*.json"):
            facts = _facts(path)
            found.append(OwnKey(path.stem, facts["holder"], facts["created"], facts["place"]))
        yield from sorted(found, key=lambda key: (key.created, key.keyid))

    def find(self, name: str | None, without: frozenset[str] = frozenset()) -> OwnKey:
        """Return the key whose keyid begins with ``name`` or whose holder is ``name``; the newest when None.

        without: keys that are not to be used. Raises KeyMissing.
        """
        known = list(self.all())
        usable = [key for key in known if key.keyid not in without]
        if name is None:
            if usable:
                return usable[-1]
            told = "all of your keys are revoked" if known else "you have no key"
            raise KeyMissing(f"{told} in {self.folder}. Make one: stillrun key new.")
        found = [key for key in known if key.keyid == name or (len(name) >= 4 and key.keyid.startswith(name))]
        found = found or [key for key in usable if key.holder == name]
        if len(found) != 1:
            told = "none of your keys is" if not found else f"{len(found)} of your keys are"
            raise KeyMissing(f"{told} called {name!r} in {self.folder}. See them: stillrun key list.")
        if found[0].keyid in without:
            raise KeyMissing(f"the key {found[0].keyid[:16]} was revoked. Use another, or make one: stillrun key new.")
        return found[0]

    def secret(self, key: OwnKey) -> PrivateKey:
        """Return the key that signs. Raises KeyMissing or KeyUnsound."""
        pem, what = self._read(key)
        found = PrivateKey.of_pem(pem, what)
        if found.keyid != key.keyid:
            raise KeyUnsound(f"{what} holds another key, {found.keyid[:16]}. Restore it from a copy.")
        return found

    def _read(self, key: OwnKey) -> tuple[str, str]:
        if key.place == "keyring":
            kept = _keyring().get_password(_SERVICE, key.keyid)
            if kept is None:
                raise KeyMissing(f"the key {key.keyid[:16]} is not in the system's keyring any more. Make a new one.")
            return str(kept), f"the keyring's entry of {key.keyid[:16]}"
        path = self._path(key.keyid)
        try:
            mode = path.stat().st_mode
            if stat.S_IMODE(mode) & 0o077:
                raise KeyUnsound(
                    f"the private key {path} can be read by others (mode {stat.S_IMODE(mode):04o}); it is not used. "
                    f"If nobody has read it, run: chmod 600 {path}; otherwise revoke it."
                )
            return path.read_text("ascii", "replace"), f"the private key {path}"
        except OSError as error:
            raise KeyMissing(f"the private key {path} cannot be read: {error.strerror}.") from error

    def _path(self, keyid: str) -> Path:
        return self.folder / f"{keyid}.pem"


def _write_secret(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as stream:
        os.fchmod(descriptor, 0o600)  # whatever the umask is
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
        if facts["schema"] == _SCHEMA and facts["place"] in ("file", "keyring"):
            return {"holder": str(facts["holder"]), "created": str(facts["created"]), "place": facts["place"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyUnsound(f"{path} does not say what key it stands for: {error!r}. Restore it from a copy.") from error
    raise KeyUnsound(f"{path} was written by another Stillrun, or is no key's. Upgrade, or take it out of there.")


def _keyring() -> Any:
    try:
        import keyring
    except ImportError as error:
        raise KeyMissing(
            "the system's keyring cannot be used: the package 'keyring' is not installed. "
            "Install it (pip install 'stillrun[keyring]'), or keep the key in a file."
        ) from error
    return _GuardedKeyring(keyring)


class _GuardedKeyring:
    """The keyring, with its failures told in a sentence."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def get_password(self, service: str, name: str) -> str | None:
        """Return what is kept."""
        found: str | None = self._tried(lambda: self._module.get_password(service, name))
        return found

    def set_password(self, service: str, name: str, text: str) -> None:
        """Keep ``text``."""
        self._tried(lambda: self._module.set_password(service, name, text))

    def _tried(self, work: Any) -> Any:
        try:
            return work()
        except self._module.errors.KeyringError as error:
            raise KeyMissing(
                f"the system's keyring refuses: {str(error).splitlines()[0]} Unlock it, or keep the key in a file."
            ) from error
