"""The remotes of a store: their settings, and one of them opened. Formats: docs/spec/remote.md §5 and §7."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

from stillrun_engine.errors import EngineError, NotFound
from stillrun_engine.pathspec import nearest
from stillrun_engine.remote_log import Known, RemoteLog
from stillrun_engine.remote_manifest import Manifest, fetched_manifest
from stillrun_snapshot.bucket import Bucket, KeyMissing, prove_promise
from stillrun_snapshot.bucket_place import BucketPlace, opened_bucket
from stillrun_snapshot.clock import Clock, utc_now
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest, digest_of
from stillrun_snapshot.errors import RecordError, StoreError
from stillrun_snapshot.kept_file import keep_file
from stillrun_snapshot.lease import Lease
from stillrun_snapshot.record import canonical_bytes, parse_record
from stillrun_snapshot.refs import RefChange
from stillrun_snapshot.store import STORE_MARK, Store

__all__ = [
    "OpenRemote",
    "RemoteSettings",
    "add_remote",
    "known_remotes",
    "opened_remote",
    "remove_remote",
    "settings_of",
]

FORMAT = 1
_MARK, _MARK_MAX = "stillrun-remote.json", 4096
_FILE, _SCHEMA, _MARK_SCHEMA = "remotes.json", "stillrun/remotes/1", "stillrun/remote/1"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class RemoteSettings:
    """What the store keeps of one remote.

    id: of the remote that was met there. proven: whether it was seen to keep its promise.
    """

    name: str
    url: str
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    id: str | None = None
    proven: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise EngineError(
                f"{self.name[:70]!r} cannot be the name of a remote: letters, digits, '.', '_' and '-' can."
            )
        if self.id is not None and not _ID.fullmatch(self.id):
            raise EngineError(f"the id of the remote '{self.name}' in {_FILE} is none.")
        self.place()

    def place(self) -> BucketPlace:
        """Where it is."""
        return BucketPlace(self.url, self.endpoint, self.region, self.anonymous)


def known_remotes(store: Store) -> dict[str, RemoteSettings]:
    """All remotes of the store by name, sorted."""
    path = store.root / _FILE
    try:
        record = parse_record(path.read_bytes(), _SCHEMA)
        return {name: RemoteSettings(name, **one) for name, one in sorted(record["remotes"].items())}
    except FileNotFoundError:
        return {}
    except (OSError, RecordError, KeyError, TypeError, AttributeError) as err:
        raise EngineError(f"{path} cannot be read ({err}). Mend or delete it, and add the remotes again.") from err


def settings_of(store: Store, name: str) -> RemoteSettings:
    """One remote; NotFound with the nearest names."""
    known = known_remotes(store)
    if name not in known:
        hint = nearest(name, known) or " 'stillrun remote add NAME ADDRESS' adds one."
        raise NotFound(f"this store has no remote '{name}'.{hint}")
    return known[name]


def add_remote(store: Store, remote: RemoteSettings) -> None:
    """Keep a new remote; EngineError when the name is taken."""
    with Lease.take(store.root, _FILE):
        known = known_remotes(store)
        if (there := known.get(remote.name)) is not None:
            raise EngineError(
                f"there is a remote '{remote.name}' already ({there.url}). Choose another name, or 'stillrun remote "
                f"remove {remote.name}' first."
            )
        _write(store, {**known, remote.name: remote})


def remove_remote(store: Store, name: str) -> RemoteSettings:
    """Forget a remote; nothing there is changed, and no run here."""
    with Lease.take(store.root, _FILE):
        gone = settings_of(store, name)
        _write(store, {other: one for other, one in known_remotes(store).items() if other != name})
    store.refs.set([RefChange(f"remotes/{name}", None)])
    return gone


def _keep(store: Store, remote: RemoteSettings) -> None:
    with Lease.take(store.root, _FILE):
        _write(store, {**known_remotes(store), remote.name: remote})


def _write(store: Store, remotes: Mapping[str, RemoteSettings]) -> None:
    told = {name: {k: v for k, v in asdict(one).items() if k != "name"} for name, one in remotes.items()}
    data = canonical_bytes({"schema": _SCHEMA, "remotes": told})
    keep_file(store.root, store.root / _FILE, data, durable=True)


class OpenRemote:
    """A remote that is there, is one, and is the one that this store knows."""

    def __init__(self, store: Store, settings: RemoteSettings, bucket: Bucket, clock: Clock) -> None:
        """Use ``opened_remote``."""
        self.settings, self.bucket, self._store = settings, bucket, store
        self.log = RemoteLog(bucket, clock)
        self._made: dict[Digest, Manifest] = {}

    @property
    def name(self) -> str:
        """Its name here."""
        return self.settings.name

    @cached_property
    def cache(self) -> Path:
        """The folder for copies of what never changes there."""
        assert self.settings.id is not None, "it was met"
        return self._store.cache_dir(f"cache/remotes/{self.settings.id}/manifests").parent

    def known(self) -> Known:
        """What runs it has now; RemoteUnsound when its log is not the one that this store has seen."""
        found = self.log.read(self._kept_state(), self._seen())
        self.remember(found)
        return found

    def remember(self, known: Known) -> None:
        """Keep how far its log was seen: for good as a ref, and what it led to in the cache."""
        seen = self._seen()
        if known.seq > (seen[0] if seen else 0):
            record = {"remote": self.settings.id, "seq": known.seq, "line": known.line}
            digest = self._store.put_record({"schema": "stillrun/remote-seen/1", **record})
            self._store.refs.set([RefChange(f"remotes/{self.name}", digest)])
            keep_file(self._store.root, self.cache / "state", known.to_bytes(), durable=False)

    def manifest(self, digest: Digest) -> Manifest:
        """What is said of a run; RecordError when it is damaged there."""
        if digest not in self._made:
            path = self.cache / "manifests" / digest.hex
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                data = b""
            if digest_of(data) != digest:
                data = fetched_manifest(self.bucket, digest)
                keep_file(self._store.root, path, data, durable=False)
            self._made[digest] = Manifest.parse(data)
        return self._made[digest]

    def prove(self, *, again: bool = False) -> None:
        """See that it keeps the promise of remote.md §8, once or ``again``; PromiseBroken."""
        if again or not self.settings.proven:
            prove_promise(self.bucket)
            self.settings = replace(self.settings, proven=True)
            _keep(self._store, self.settings)

    def _seen(self) -> tuple[int, Digest] | None:
        digest = self._store.refs.get(f"remotes/{self.name}")
        if digest is None:
            return None
        record = self._store.get_record(digest, "remote-seen")
        return (record["seq"], Digest(record["line"])) if record["remote"] == self.settings.id else None

    def _kept_state(self) -> Known | None:
        seen = self._seen()
        try:
            kept = Known.parse((self.cache / "state").read_bytes())
        except (OSError, StoreError):
            return None
        # only what the ref vouches for: a cache may be anybody's
        return kept if seen == (kept.seq, kept.line) else None


def opened_remote(
    store: Store,
    name: str,
    variables: Mapping[str, str],
    *,
    create: bool = False,
    patience: float = 60.0,
    clock: Clock = utc_now,
) -> OpenRemote:
    """The remote called ``name``; made there first when nothing is there and ``create`` is true.

    variables: of the environment; the libraries of the services look there for credentials.
    """
    settings = settings_of(store, name)
    bucket = opened_bucket(settings.place(), variables, patience=patience)
    found = _met(bucket)
    if found is None:
        if settings.id is not None:
            raise EngineError(
                f"'{name}' ({settings.url}) is no remote any more: its {_MARK} is gone. Ask who looks after it; "
                f"'stillrun remote remove {name}' forgets it here."
            )
        if not create:
            raise NotFound(
                f"'{name}' ({settings.url}) holds no runs yet; 'stillrun push FLOW/RUN --remote {name}' puts one there."
            )
        found = _made(bucket)
        settings = replace(settings, proven=True)
    if settings.id not in (None, found):
        raise EngineError(
            f"what is at {settings.url} is another remote than the one that this store knows as '{name}'. Nothing was "
            f"taken from there; "
            f"if that is right, 'stillrun remote remove {name}' and add it again."
        )
    if settings.id is None:
        settings = replace(settings, id=found)
        _keep(store, settings)
    return OpenRemote(store, settings, bucket, clock)


def _met(bucket: Bucket) -> str | None:
    """The id of the remote that is there, None when there is none; EngineError when it is newer, or something else."""
    try:
        data = bucket.get(_MARK, _MARK_MAX)
    except KeyMissing:
        return None
    try:
        record = parse_record(data, None)
        format_, found = record["format"], record["id"]
    except (RecordError, KeyError) as err:
        raise EngineError(
            f"{bucket.name}/{_MARK} cannot be read ({err}): it is no remote of Stillrun's. Choose another prefix."
        ) from err
    if record["schema"] != _MARK_SCHEMA or type(format_) is not int or format_ > FORMAT:
        raise EngineError(
            f"the remote {bucket.name} has format {format_} ({record['schema']}), and this Stillrun reads format "
            f"{FORMAT}. Upgrade Stillrun to use it."
        )
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise EngineError(f"{bucket.name}/{_MARK} has no id: it is no remote of Stillrun's. Choose another prefix.")
    return found


def _made(bucket: Bucket) -> str:
    """Make the remote; the id of it, or of the one that another made at the same time."""
    if bucket.size(STORE_MARK) is not None:
        raise EngineError(
            f"{bucket.name} is a store, and a remote is a folder of its own: name an empty one. To take a run from another "
            "store, 'stillrun replay FLOW/RUN --from FOLDER'."
        )
    prove_promise(bucket)
    bucket.create(_MARK, canonical_bytes({"schema": _MARK_SCHEMA, "format": FORMAT, "id": os.urandom(16).hex()}))
    found = _met(bucket)
    if found is None:
        raise EngineError(
            f"{bucket.name}/{_MARK} was written and is not there; the service does not keep what it is given."
        )
    return found
