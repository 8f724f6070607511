"""Buckets: one suite for every kind, then what a network and a service may do wrong."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import pytest
from tests.s3 import CREDENTIALS, Asked, Fault, FaultProxy, proxied, s3_server

from stillrun_snapshot.bucket import Bucket, BucketError, FileTooLong, KeyMissing, PromiseBroken, prove_promise
from stillrun_snapshot.bucket_place import BucketPlace, opened_bucket, parsed_url
from stillrun_snapshot.errors import StoreFull


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, where the library looks for them itself."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def proxy(server: str) -> Iterator[FaultProxy]:
    with proxied(server) as found:
        yield found


def bucket_of(proxy: FaultProxy, prefix: str = "", patience: float = 20.0, **others: str) -> Bucket:
    prefix = prefix or os.urandom(8).hex()
    place = BucketPlace(f"s3://{others.pop('bucket', 'runs')}/{prefix}", proxy.address, "us-east-1")
    return opened_bucket(place, {**CREDENTIALS, **others}, patience=patience)


@pytest.fixture(params=["folder", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    if request.param == "folder":
        return opened_bucket(BucketPlace(str(tmp_path)), {})
    return bucket_of(request.getfixturevalue("proxy"))


def test_what_is_put_is_got(bucket: Bucket) -> None:
    bucket.put("objects/ab/cd", b"hello")
    assert bucket.get("objects/ab/cd", 5) == b"hello"
    assert bucket.get_range("objects/ab/cd", 1, 3) == b"ell"
    assert bucket.size("objects/ab/cd") == 5
    bucket.put("objects/ab/cd", b"other")
    assert bucket.get("objects/ab/cd", 5) == b"other"
    (listed,) = bucket.keys("objects/")
    assert (listed.key, listed.size) == ("objects/ab/cd", 5)
    assert bucket.written("objects/ab/cd") == pytest.approx(listed.written, abs=1)
    assert bucket.written("objects/ab/ce") is None
    bucket.delete("objects/ab/cd")
    bucket.delete("objects/ab/cd")
    assert bucket.size("objects/ab/cd") is None


def test_what_is_not_there_is_said_to_be_missing(bucket: Bucket) -> None:
    with pytest.raises(KeyMissing):
        bucket.get("nothing", 1)
    with pytest.raises(KeyMissing):
        bucket.get_range("nothing", 0, 1)


def test_no_more_is_read_than_may_be(bucket: Bucket) -> None:
    bucket.put("long", bytes(1000))
    with pytest.raises(FileTooLong, match="more than the 999"):
        bucket.get("long", 999)


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x", "a//b", "", "a/./b", "a\\b", "a\nb"])
def test_no_key_leads_outside(bucket: Bucket, key: str) -> None:
    with pytest.raises(ValueError, match="no name of a file"):
        bucket.put(key, b"")


def test_of_many_that_create_a_file_one_does(bucket: Bucket) -> None:
    contents = [b"%d" % number for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        won = list(pool.map(lambda content: bucket.create("log/1", content), contents))
    assert won.count(True) == 1
    assert bucket.get("log/1", 10) == contents[won.index(True)]


def test_the_promise_is_seen_and_leaves_nothing(bucket: Bucket) -> None:
    prove_promise(bucket)
    assert list(bucket.keys("")) == []


def test_a_service_that_lets_two_create_the_same_is_found_out(proxy: FaultProxy) -> None:
    proxy.fault = lambda asked: Fault(drop_headers=("if-none-match:",))
    with pytest.raises(PromiseBroken, match="conditional writes"):
        prove_promise(bucket_of(proxy))


def first_of_each(fault: Fault, method: str = "") -> Callable[[Asked], Fault | None]:
    """The fault when a file is asked for the first time, by that method."""
    met: set[tuple[str, str]] = set()

    def choose(asked: Asked) -> Fault | None:
        if (asked.method, asked.path) in met or method not in asked.method:
            return None
        met.add((asked.method, asked.path))
        return fault

    return choose


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503, code="SlowDown", headers=("Retry-After: 1",)),
        Fault(status=429, code="TooManyRequests"),
        Fault(cut_request=0),
        Fault(cut_request=40_000),
        Fault(cut_answer=100),
        Fault(lose_answer=True),
        Fault(wait=0.3),
        Fault(date="Thu, 01 Jan 1970 00:00:00 GMT"),
    ],
    ids=["500", "slow-down", "429", "dropped", "cut-upload", "cut-answer", "lost-answer", "latency", "old-date"],
)
def test_what_passes_is_waited_for(proxy: FaultProxy, fault: Fault) -> None:
    bucket, data = bucket_of(proxy), os.urandom(200_000)
    proxy.fault = first_of_each(fault)
    bucket.put("one", data)
    assert bucket.get("one", len(data)) == data
    assert bucket.get_range("one", 10, 100_000) == data[10:100_010]
    assert bucket.size("one") == len(data)


@pytest.mark.parametrize("how", ["seconds", pytest.param("date", marks=pytest.mark.slow)])
def test_as_long_as_a_service_asks_for_it_is_left_alone(proxy: FaultProxy, how: str) -> None:
    """Eight threads wait together: none asks again before, but the one that asks for how long."""
    bucket, early = bucket_of(proxy), list[Asked]()
    bucket.put("one", b"1")
    over = int(time.time()) + 2
    asked_for = "1" if how == "seconds" else formatdate(over, usegmt=True)

    def choose(asked: Asked) -> Fault | None:
        if time.time() >= (over if how == "date" else over - 1):
            return None
        early.append(asked)
        return Fault(status=503, code="SlowDown", headers=(f"Retry-After: {asked_for}",))

    proxy.fault = choose
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: bucket.get("one", 1), range(8))) == [b"1"] * 8
    assert len(early) <= 9


def test_who_asks_for_hours_is_not_waited_for(proxy: FaultProxy) -> None:
    bucket = bucket_of(proxy)
    proxy.fault = lambda asked: Fault(status=429, code="TooManyRequests", headers=("Retry-After: 7200",))
    with pytest.raises(BucketError, match="come back in 7,200 seconds"):
        bucket.get("one", 1)


def test_a_file_whose_creation_was_not_answered_is_there_once(proxy: FaultProxy) -> None:
    bucket = bucket_of(proxy)
    proxy.fault = first_of_each(Fault(lose_answer=True), "PUT")
    assert bucket.create("log/1", b"mine") in (True, False)  # it cannot know; who asks compares
    assert bucket.get("log/1", 10) == b"mine"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=403, code="AccessDenied"), "refuses access (AccessDenied)"),
        (Fault(status=403, code="InvalidAccessKeyId"), "refuses access (InvalidAccessKeyId)"),
        (Fault(status=403, code="RequestTimeTooSkewed"), "the clock of this machine is off"),
        (Fault(status=500), "does not answer as it should (InternalError)"),
        (Fault(status=503, code="SlowDown"), "does not answer as it should (SlowDown)"),
        (Fault(cut_answer=10), "does not answer as it should"),
    ],
)
def test_what_does_not_pass_is_one_sentence_without_secrets(proxy: FaultProxy, fault: Fault, said: str) -> None:
    bucket = bucket_of(proxy, patience=0.2)
    bucket.put("one", bytes(1000))
    proxy.fault = lambda asked: fault
    with pytest.raises(BucketError) as caught:
        bucket.get("one", 2000)
    text = str(caught.value)
    assert said in text
    assert "\n" not in text
    assert "Authorization" not in text
    assert "AKID" not in text
    assert caught.value.__suppress_context__


def test_a_bucket_that_is_not_there_is_named(proxy: FaultProxy) -> None:
    bucket = bucket_of(proxy, bucket="nowhere")
    for use in (lambda: bucket.get("x", 1), lambda: bucket.put("x", b""), lambda: list(bucket.keys(""))):
        with pytest.raises(BucketError, match="there is no bucket 'nowhere'"):
            use()


def test_a_service_that_is_not_reached_is_named() -> None:
    place = BucketPlace("s3://runs/x", "http://127.0.0.1:9", "us-east-1")
    bucket = opened_bucket(place, CREDENTIALS, patience=0.5)
    with pytest.raises(BucketError, match="s3://runs/x is not reached"):
        bucket.get("x", 1)


def test_a_machine_without_credentials_is_told_so(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    # where a machine in the cloud is asked for its own credentials; here nobody answers
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    place = BucketPlace("s3://runs/x", proxy.address, "us-east-1")
    with pytest.raises(BucketError, match="needs credentials"):
        opened_bucket(place, {"HOME": "/nonexistent"}, patience=0.5).get("x", 1)
    assert proxy.asked == []


def test_what_anybody_may_read_needs_no_credentials(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"x-amz-acl": "public-read", "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(f"{proxy.address}/runs/open/one", b"1", headers, method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    place = BucketPlace("s3://runs/open", proxy.address, "us-east-1", anonymous=True)
    assert opened_bucket(place, {}).get("one", 1) == b"1"


def test_a_profile_gives_credentials_region_and_endpoint(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[lab]\naws_access_key_id = A\naws_secret_access_key = B\n")
    (tmp_path / ".aws" / "config").write_text(f"[profile lab]\nregion = eu-west-1\nendpoint_url = {proxy.address}\n")
    variables = {"HOME": str(tmp_path), "AWS_PROFILE": "lab"}
    bucket = opened_bucket(BucketPlace(f"s3://runs/{os.urandom(4).hex()}"), variables)
    bucket.put("one", b"1")
    assert bucket.get("one", 1) == b"1"
    with pytest.raises(BucketError, match="no profile 'labb'"):
        opened_bucket(BucketPlace("s3://runs/x"), {**variables, "AWS_PROFILE": "labb"})


def test_a_listing_that_lies_is_not_relied_on(proxy: FaultProxy) -> None:
    bucket = bucket_of(proxy)
    proxy.fault = lambda asked: Fault(change=lambda body: b"<x/>") if "list-type" in asked.path else None
    bucket.put("one", b"1")
    assert bucket.get("one", 1) == b"1"
    assert bucket.size("one") == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://runs/team/a/", "s3://runs/team/a"),
        ("s3://runs", "s3://runs"),
        ("gcs://runs/x", "gs://runs/x"),
        ("azure://runs/x", "az://runs/x"),
        ("file:///srv/runs", "/srv/runs"),
        ("../shared", "/home/shared"),
        ("/srv/./runs", "/srv/runs"),
    ],
)
def test_an_address_has_one_form(text: str, found: str) -> None:
    assert parsed_url(text, Path("/home/me")) == found
    assert BucketPlace(found).url == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ftp://host/x", "'ftp://' is no kind of remote"),
        ("https://s3.example.org/runs", "--endpoint"),
        ("s3://key:secret@runs/x", "Credentials are never kept"),
        ("s3://runs/x?X-Amz-Signature=abc", "Credentials are never kept"),
        ("s3://runs/x#frag", "Credentials are never kept"),
        ("s3://", "no address"),
        ("s3://runs/../x", "no address"),
        ("s3://runs/a b", "no address"),
        ("me@host:/srv/runs", "mount the folder"),
        ("file://host/srv", "another machine"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_secrets(text: str, said: str) -> None:
    with pytest.raises(BucketError) as caught:
        parsed_url(text, Path("/home/me"))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "abc" not in str(caught.value)


def test_an_endpoint_with_a_password_is_refused() -> None:
    with pytest.raises(BucketError, match="Credentials are never kept") as caught:
        BucketPlace("s3://runs/x", "https://me:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_a_folder_that_is_full_or_gone_is_said_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BucketError, match="make it, or mount it"):
        opened_bucket(BucketPlace(str(tmp_path / "gone")), {})
    if Path("/dev/full").exists():
        (tmp_path / "r").mkdir()
        bucket = opened_bucket(BucketPlace(str(tmp_path / "r")), {})
        (tmp_path / "r" / "objects").symlink_to("/proc/self")  # nothing can be written there
        with pytest.raises(Exception, match="remote") as caught:
            bucket.put("objects/x", b"1")
        assert not isinstance(caught.value, StoreFull)
