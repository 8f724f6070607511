"""Fetches package files into the store, several at once, each checked against the digest it was promised under."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from stillrun_envs.errors import FetchError
from stillrun_envs.location import file_name, local_path, without_credentials, without_credentials_in
from stillrun_envs.network import Network
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.store import LOOSE_MIN, Store

__all__ = ["Fetched", "Wanted", "fetch"]

_BLOCK = 1 << 18
_AT_ONCE = 8
_SLOW_S = 15  # after which it is said what is waited for
_SIZE_MAX = 16 << 30  # no package is larger; a server must not fill the disk


@dataclass(frozen=True)
class Wanted:
    """A file to be kept."""

    url: str
    digest: Digest | None  # what the index or channel promised
    size: int | None = None


@dataclass(frozen=True)
class Fetched:
    """A file that is kept now."""

    digest: Digest
    size: int


def fetch(
    wanted: Sequence[Wanted],
    store: Store,
    network: Network,
    *,
    spare: Callable[[str], bool] = lambda _: False,
    progress: Callable[[str], None],
) -> list[Fetched]:
    """Every file as an object, in the order asked; what the store holds already is not fetched again.

    spare: whether the file of an address is only held for now, since it can be had again; all others are kept.
    """
    for one in wanted:
        if one.digest and not spare(one.url):
            store.keep_spare(one.digest)
    held = {one: Fetched(one.digest, store.size(one.digest)) for one in wanted if one.digest and store.has(one.digest)}
    missing = [one for one in dict.fromkeys(wanted) if one not in held]
    if missing:
        known = sum(one.size or 0 for one in missing)
        progress(f"Fetching {len(missing)} package{'s' * (len(missing) > 1)} ({known / 1e6:,.1f} MB).")
        held.update(zip(missing, _fetched(missing, store, network, spare, progress), strict=True))
    return [held[one] for one in wanted]


def _fetched(
    missing: Sequence[Wanted],
    store: Store,
    network: Network,
    spare: Callable[[str], bool],
    progress: Callable[[str], None],
) -> list[Fetched]:
    folder = store.scratch("fetch")
    try:
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            jobs = [
                pool.submit(_kept, one, folder / str(index), store, network, spare(one.url))
                for index, one in enumerate(missing)
            ]
            ended, open_ = wait(jobs, timeout=_SLOW_S, return_when=FIRST_EXCEPTION)
            while open_ and not any(job.exception() for job in ended):
                progress(_slow([one for one, job in zip(missing, jobs, strict=True) if not job.done()], folder))
                ended, open_ = wait(jobs, timeout=_SLOW_S, return_when=FIRST_EXCEPTION)
            if any(job.exception() for job in ended):
                pool.shutdown(wait=True, cancel_futures=True)
            failed = next((job for job in jobs if not job.cancelled() and job.exception()), None)
            if failed is not None:
                failed.result()
            return [job.result() for job in jobs]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _slow(rest: Sequence[Wanted], folder: Path) -> str:
    """What is waited for, and how much of it is here."""
    hosts = sorted({urlsplit(one.url).hostname or "this machine" for one in rest})
    here = 0
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # it was finished meanwhile
            here += path.stat().st_size
    names = ", ".join(file_name(one.url) for one in rest[:3]) + (f" and {len(rest) - 3} more" if len(rest) > 3 else "")
    return f"Still fetching {names} from {', '.join(hosts)} ({here / 1e6:,.1f} MB of them are here)."


def _kept(one: Wanted, path: Path, store: Store, network: Network, spare: bool) -> Fetched:
    digest, size = _received(one, path, network)
    if one.digest is not None and digest != one.digest:
        raise FetchError(
            f"{file_name(one.url)} from {without_credentials(one.url)}: expected {one.digest}, "
            f"received {digest} ({size:,} bytes); nothing was kept. "
            "Try again; if it stays so, the file was replaced on the server: choose another version."
        )
    if size < LOOSE_MIN and not spare:
        store.put(path.read_bytes())
    else:
        store.adopt(path, digest, size, spare=spare)
    return Fetched(digest, size)


def _received(one: Wanted, path: Path, network: Network) -> tuple[Digest, int]:
    """Write the bytes behind an address to ``path``; begins again when a connection breaks half way."""
    limit = _SIZE_MAX if one.size is None else one.size
    for attempt in range(network.retries + 1):
        try:
            return _written(_blocks(one.url, network), path, limit, one.url)
        except urllib3.exceptions.HTTPError as err:
            if attempt == network.retries or isinstance(err, urllib3.exceptions.MaxRetryError):
                raise FetchError(
                    f"{without_credentials(one.url)} cannot be fetched: {_reason(err)}. "
                    "Check the network, the proxy settings and the index, then run again."
                ) from err
    raise AssertionError("the last attempt returns or raises")


def _written(blocks: Iterator[bytes], path: Path, limit: int, url: str) -> tuple[Digest, int]:
    state, size = hashlib.sha256(), 0
    with open(path, "wb") as file:
        for block in blocks:
            size += len(block)
            if size > limit:
                raise FetchError(
                    f"{without_credentials(url)} sends more than the {limit:,} bytes announced; nothing was kept. "
                    "The file was replaced on the server: choose another version."
                )
            state.update(block)
            file.write(block)
    return Digest("sha256:" + state.hexdigest()), size


def _blocks(url: str, network: Network) -> Iterator[bytes]:
    local = local_path(url)
    if local is not None:
        yield from _local_blocks(local)
        return
    response = network.open(url)
    try:
        if response.status >= 400:
            raise FetchError(_refusal(url, response.status))
        yield from response.stream(_BLOCK, decode_content=False)
        response.release_conn()
    finally:
        response.close()  # a connection with an answer half read serves nobody


def _local_blocks(path: Path) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as err:
        raise FetchError(f"{path} cannot be read: {err.strerror}. It is named by the index; make it readable.") from err


def _refusal(url: str, status: int) -> str:
    place = without_credentials(url)
    if status in (401, 403):
        return f"{place} asks for credentials (HTTP {status}); put them in ~/.netrc or in the index address."
    if status in (404, 410):
        return (
            f"{place} is not there any more (HTTP {status}); the index names it but does not have it: try again later."
        )
    return f"{place} answered HTTP {status}; try again later."


def _reason(err: urllib3.exceptions.HTTPError) -> str:
    inner = err.reason if isinstance(err, urllib3.exceptions.MaxRetryError) and err.reason else err
    text = str(inner)
    return without_credentials_in(text.rpartition(">: ")[2] or text)
