"""A bucket of an object store: S3 and what speaks like it, Google Cloud Storage, Azure; by the library obstore."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from http.client import HTTPException
from typing import Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from stillrun_snapshot.aws_profile import profile_settings
from stillrun_snapshot.bucket import BucketError, FileTooLong, KeyMissing, Listed, checked_key
from stillrun_snapshot.bucket_place import BucketPlace
from stillrun_snapshot.throttle import Gate, is_throttled

__all__ = ["CloudBucket"]

_CONNECT_PATIENCE = 5.0  # seconds: a service that is not reached at all seldom comes back soon
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_NO_CREDENTIALS = (
    "169.254.169.254",
    "169.254.170.2",
    "/latest/api/token",
    "/latest/meta-data",
    "metadata.google",
    "credential",
    "Credential",
    "missing AccessKey",
)
_REST = 10  # times the patience: as long all may wait because a service asks for it
_TRIES_FOR_SHORT = 3
_Result = TypeVar("_Result")


class _EndsEarly(BucketError):
    """Fewer bytes came than were asked for."""


class CloudBucket:
    """Files below a prefix of a bucket. Every request is tried again when that may help: none of them does harm twice."""

    def __init__(self, place: BucketPlace, settings: Mapping[str, str], *, patience: float) -> None:
        """settings: environment variables and where profiles are; see ``opened_bucket``."""
        self._place, self._patience = place, patience
        self._gate = Gate()
        options = _options(place, settings)
        self._store: Any = self._call(lambda: from_url(place.url, **options), "")

    @property
    def name(self) -> str:
        """Its address."""
        return self._place.url

    def get(self, key: str, limit: int) -> bytes:
        """A whole file."""
        checked_key(key)

        def work() -> bytes:
            found = obstore.get(self._store, key)
            size = found.meta["size"]
            if size > limit:
                raise FileTooLong(f"{self.name}/{key} has {size:,} bytes, more than the {limit:,} that it may have.")
            return bytes(found.bytes())

        return self._call(work, key)

    def get_range(self, key: str, start: int, length: int) -> memoryview:
        """A part of a file."""
        checked_key(key)

        def work() -> memoryview:
            data = memoryview(obstore.get_range(self._store, key, start=start, length=length))
            if len(data) != length:
                raise _EndsEarly(f"{self.name}/{key} ends {length - len(data):,} bytes too early.")
            return data

        return self._call(work, key)

    def put(self, key: str, data: bytes | memoryview) -> None:
        """Write a file."""
        checked_key(key)
        self._call(lambda: obstore.put(self._store, key, data, use_multipart=False), key)

    def create(self, key: str, data: bytes) -> bool:
        """Write a file when there is none."""
        checked_key(key)

        def work() -> bool:
            try:
                obstore.put(self._store, key, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
            return True

        return self._call(work, key)

    def size(self, key: str) -> int | None:
        """A file's length."""
        checked_key(key)
        try:
            return int(self._call(lambda: obstore.head(self._store, key), key)["size"])
        except KeyMissing:
            return None

    def written(self, key: str) -> float | None:
        """When a file was written."""
        checked_key(key)
        try:
            return float(self._call(lambda: obstore.head(self._store, key), key)["last_modified"].timestamp())
        except KeyMissing:
            return None

    def delete(self, key: str) -> None:
        """Remove a file."""
        checked_key(key)
        try:
            self._call(lambda: obstore.delete(self._store, key), key)
        except KeyMissing:
            return

    def keys(self, prefix: str) -> Iterator[Listed]:
        """What the bucket lists."""
        folder = prefix.rsplit("/", 1)[0] if "/" in prefix else None
        batches = self._call(lambda: list(obstore.list(self._store, folder)), "")
        found = (Listed(each["path"], each["size"], each["last_modified"].timestamp()) for b in batches for each in b)
        yield from sorted((one for one in found if one.key.startswith(prefix)), key=lambda one: one.key)

    def _call(self, work: Callable[[], _Result], key: str) -> _Result:
        """What ``work`` returns, tried again for a while after what may pass; BucketError in one sentence otherwise."""
        begun, pause, tries, rested = time.monotonic(), _FIRST_PAUSE, 0, 0.0
        while True:
            tries += 1
            rested += self._gate.wait()
            try:
                result = work()
            except (NotFoundError, FileNotFoundError) as err:
                if "NoSuchBucket" in str(err) or "ContainerNotFound" in str(err):
                    raise self._no_bucket() from None
                raise KeyMissing(f"there is no {key} in {self.name}.") from None
            except (_EndsEarly, BaseError, OSError, ValueError) as err:
                # the library's text is not passed on: it has whole requests in it, signatures included
                final = self._final(err, tries)
                waited = time.monotonic() - begun - rested
                if _is_short(err) and tries >= _TRIES_FOR_SHORT:  # the file is, and not the answer
                    final = BucketError(f"{self.name}/{key} is shorter than it should be: it is damaged there.")
                if final is None and is_throttled(str(err), _code(str(err))) and rested < self._patience * _REST:
                    self._rest(key)
                    continue
                patience = min(self._patience, _CONNECT_PATIENCE) if _is_unreached(err) else self._patience
                if final is None and waited + pause > patience:
                    final = self._gave_up(err)
                if final is not None:
                    raise final from None
            else:
                self._gate.opened()
                return result
            time.sleep(pause * (0.5 + random.random()))  # noqa: S311 - so that many clients do not come back at once
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _rest(self, key: str) -> None:
        """Have all requests wait for as long as the service asks for. That does not count as patience that was needed."""
        try:
            url = str(obstore.sign(self._store, "GET", key or "probes", timedelta(minutes=5)))
        except (BaseError, ValueError, OSError):  # not every kind of credentials can sign an address
            url = None
        try:
            self._gate.close(url)
        except HTTPException as err:
            raise BucketError(f"{self.name} has too much to do: {err}. What was moved stays; try again then.") from None

    def _final(self, err: Exception, tries: int) -> BucketError | None:
        """The error for what trying again does not mend."""
        text = str(err)
        code = _code(text)
        if code in ("NoSuchBucket", "ContainerNotFound"):
            return self._no_bucket()
        if code in ("RequestTimeTooSkewed", "RequestExpired"):
            return BucketError(
                f"{self.name} refuses requests because the clock of this machine is off ({code}). Set it, then try again."
            )
        if isinstance(err, (PermissionDeniedError, UnauthenticatedError)) or code in ("AccessDenied", "ExpiredToken"):
            return BucketError(
                f"{self.name} refuses access ({code or _status(text)}). Look at the credentials of this machine and "
                f"at what they may do there."
            )
        if any(sign in text for sign in _NO_CREDENTIALS) and tries > 1:
            return BucketError(
                f"{self.name} needs credentials, and this machine has none for it. Give them where the tools of the "
                f"service look for them "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, ...); for what anybody may read add the "
                "remote with --anonymous."
            )
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed") or "301 Moved" in text:
            return BucketError(f"{self.name} is in another region; add the remote with --region.")
        if isinstance(err, (NotSupportedError, ValueError)):
            return BucketError(f"{self.name} cannot be used: {_first_line(text)}.")
        return None

    def _gave_up(self, err: Exception) -> BucketError:
        text = str(err)
        if _is_unreached(err):
            return BucketError(f"{self.name} is not reached. Look at the network and the endpoint, then try again.")
        what = code_or_status if (code_or_status := _code(text) or _status(text)) else "the connection breaks"
        return BucketError(
            f"{self.name} does not answer as it should ({what}), and trying for {self._patience:.0f} s did not help. "
            "What was moved stays; try again later."
        )

    def _no_bucket(self) -> BucketError:
        bucket = self.name.split("://")[1].split("/")[0]
        return BucketError(f"there is no bucket '{bucket}' at {self._place.endpoint or self.name}; make it first.")


def _options(place: BucketPlace, settings: Mapping[str, str]) -> dict[str, Any]:
    """What the library is told beside the address."""
    config: dict[str, Any] = {}
    provider = None
    if place.url.startswith("s3://"):
        config.update(profile_settings(settings) if not place.anonymous else {})
        provider = config.pop("credential_provider", None)
        if place.endpoint:
            config["aws_endpoint"] = place.endpoint
        if place.region:
            config["aws_region"] = place.region
    if place.anonymous:
        config["skip_signature"] = "true"
    endpoint = str(
        config.get("aws_endpoint") or settings.get("AWS_ENDPOINT_URL_S3") or settings.get("AWS_ENDPOINT_URL")
    )
    client = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "600s"}
    return {
        "config": config,
        "client_options": {**client, **({"allow_http": True} if endpoint.startswith("http://") else {})},
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=60)},  # it is done here, for all threads
        **({} if provider is None else {"credential_provider": provider}),
    }


def _is_short(err: Exception) -> bool:
    return isinstance(err, _EndsEarly) or "416 Range Not Satisfiable" in str(err)


def _is_unreached(err: Exception) -> bool:
    return "kind: Connect" in str(err)


def _code(text: str) -> str | None:
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return found[1] if found else None


def _status(text: str) -> str | None:
    found = re.search(r"status code: (\d{3} [A-Za-z ]{1,40})", text)
    return found[1].strip() if found else None


def _first_line(text: str) -> str:
    return re.sub(r"https?://\S+", "…", text.strip().splitlines()[0] if text.strip() else "no reason given")[
        :200
    ].rstrip(".")
