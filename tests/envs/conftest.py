"""Real uv, real wheels, a real channel: all made here and served on the loopback."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from stillrun_envs import conda, interpreter, repack
from stillrun_snapshot.store import Store

ROOT = Path(__file__).parents[2]
BUILDER = Path(__file__).with_name("builder.py")
PYTHON = Path(sys.executable)


def _fixture_module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / "fixtures" / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Site:
    """A folder served over HTTP; ``tampered`` files are sent with their last byte changed, ``cut`` ones half."""

    url: str
    folder: Path
    tampered: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)
    busy: dict[str, int] = field(default_factory=dict)  # how often a file is answered with 429 at first
    slow: dict[str, float] = field(default_factory=dict)  # seconds that a file takes
    protected: bool = False
    requests: list[str] = field(default_factory=list)


class _Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *arguments: object, site: Site) -> None:
        self.site = site
        super().__init__(*arguments, directory=str(site.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        name = self.path.rpartition("/")[2]
        time.sleep(self.site.slow.get(name, 0))
        if self.site.protected and "Authorization" not in self.headers:
            self.send_error(401)
        elif self.site.busy.get(name, 0) > 0:
            self.site.busy[name] -= 1
            self.send_response(429)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name in self.site.tampered | self.site.cut:
            data = (self.site.folder / self.path.lstrip("/")).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if name in self.site.cut else data[:-1] + b"?")
        else:
            super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _served(folder: Path) -> Iterator[Site]:
    site = Site("", folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, site=site)) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield site
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def make_wheel() -> object:
    """The maker of small wheels."""
    return _fixture_module("wheels/make_wheel.py").make_wheel


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory, make_wheel: object) -> Path:
    """alpha 1.0 and 2.0 with a command, beta that needs alpha<2, gamma that needs alpha>=2, bulky of 200 KB."""
    assert callable(make_wheel)
    folder = tmp_path_factory.mktemp("wheels")
    for version in ("1.0", "2.0"):
        source = f"__version__ = {version!r}\ndef main():\n    print('alpha', __version__)\n"
        make_wheel(folder, "alpha", version, modules={"alpha/__init__.py": source}, scripts={"alpha": "alpha:main"})
    make_wheel(folder, "beta", "1.0", requires=["alpha<2"])
    make_wheel(folder, "gamma", "1.0", requires=["alpha>=2"])
    noise = "".join(f"x{index} = '{hashlib.sha256(str(index).encode()).hexdigest()}'\n" for index in range(3000))
    make_wheel(folder, "bulky", "1.0", modules={"bulky/__init__.py": noise, "bulky/data/a b.txt": "spaced\n"})
    make_wheel(folder, "elsewhere", "1.0", tag="cp399-cp399-win_amd64")
    make_wheel(folder, "greeter", "1.0", requires=["greet>=1"])
    return folder


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory, wheelhouse: Path) -> Iterator[Site]:
    """The wheels on a simple index."""
    root = tmp_path_factory.mktemp("index")
    _fixture_module("wheels/make_wheel.py").make_index(wheelhouse, root)
    yield from _served(root)


@pytest.fixture
def broken_index(tmp_path: Path, wheelhouse: Path) -> Iterator[Site]:
    """An index of its own, for tests that spoil it."""
    _fixture_module("wheels/make_wheel.py").make_index(wheelhouse, tmp_path / "index")
    yield from _served(tmp_path / "index")


@pytest.fixture(scope="session")
def environ(tmp_path_factory: pytest.TempPathFactory, index: Site) -> dict[str, str]:
    """The variables of a user who has nothing set but our index."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_", "PYTHON", "VIRTUAL_"))
    }
    kept = {name: value for name, value in kept.items() if not name.lower().endswith("_proxy")}
    cache = tmp_path_factory.mktemp("uv")
    return {**kept, "UV_DEFAULT_INDEX": f"{index.url}/simple", "UV_HTTP_RETRIES": "0", "UV_CACHE_DIR": str(cache)}


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory, interpreter_store: Path) -> Iterator[Store]:
    """One store for tests that only add to it: the interpreter is kept and unpacked in it once."""
    with Store.open(shutil.copytree(interpreter_store, tmp_path_factory.mktemp("shared") / "store")) as opened:
        yield opened


@pytest.fixture
def lonely(tmp_path: Path, interpreter_store: Path) -> Iterator[Store]:
    """A store of its own with the interpreter in it, for tests that damage it."""
    with Store.open(shutil.copytree(interpreter_store, tmp_path / "store")) as opened:
        yield opened


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conda channel."""
    return made_channel(tmp_path_factory)


def made_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conda channel, made once for each state of what it is made of."""
    maker = ROOT / "fixtures" / "conda" / "make_channel.py"
    made_of = [maker, *(Path(module.__file__ or "") for module in (conda, interpreter, repack))]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in made_of) + sys.version.encode()).hexdigest()[:16]
    kept = ROOT / ".cache" / "channels" / key
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = tmp_path_factory.mktemp("channel") / "new"
        _fixture_module("conda/make_channel.py").make_channel(fresh)
        aside = kept.with_name(f"{key}.{os.getpid()}")
        shutil.copytree(fresh, aside)
        try:
            aside.rename(kept)
        except OSError:  # another session was faster
            shutil.rmtree(aside)
    return kept


@pytest.fixture(scope="session")
def channel_site(channel: Path) -> Iterator[Site]:
    """The channel over HTTP."""
    yield from _served(channel)
