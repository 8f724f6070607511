"""Files as they come from other tools: text, YAML and TOML, and what is in them, read with a sentence for each fault."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stillrun_envs.errors import EnvError
from stillrun_envs.location import without_credentials_in
from stillrun_envs.toml import parse_toml
from stillrun_snapshot.deferred import dataclass
from stillrun_snapshot.digest import Digest
from stillrun_snapshot.errors import StoreError

__all__ = ["SIZE_MAX", "Document", "Table"]

SIZE_MAX = 64 << 20  # bytes; the largest lock files of large projects are some ten megabytes
_DEPTH_MAX = 64  # libyaml's and tomllib's own recursion would end the process long after any real file has ended
_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Document:
    """One file, and the kind of error that speaks of it."""

    path: Path
    error: type[EnvError]
    tool: str = ""  # what writes such files, such as 'conda-lock lock'

    @property
    def name(self) -> str:
        """The file's name in sentences."""
        return self.path.name

    def refused(self, what: str, cure: str = "") -> EnvError:
        """An error that says ``what`` is wrong with the file and what to do."""
        cure = cure or (f"Write it again with '{self.tool}'." if self.tool else "Correct the file.")
        return self.error(f"{self.name} {what}. {cure}")

    def text(self) -> str:
        """The file's content. Raises ``error`` for a file that is missing, empty, huge or no UTF-8 text."""
        try:
            size = self.path.stat().st_size
            if size > SIZE_MAX:
                raise self.refused(f"has {size:,} bytes, more than the {SIZE_MAX:,} that are read", "Is it this file?")
            data = self.path.read_bytes()
        except OSError as err:
            raise self.error(f"{self.path} cannot be read ({err.strerror or err}); check its name and rights.") from err
        if b"\0" in data:
            raise self.refused("is not text: it holds null bytes", "Name the lock or request file itself.")
        try:
            text = data.decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as err:
            raise self.refused(f"is not UTF-8 text (byte {err.start:,})", "Save it as UTF-8.") from err
        if not text.strip():
            raise self.refused("is empty")
        return text

    def toml(self, text: str | None = None) -> Table:
        """The file as TOML."""
        try:
            return Table(self, "", parse_toml(self.text() if text is None else text))
        except RecursionError as err:
            raise self.refused("is nested too deeply") from err
        except ValueError as err:  # TOMLDecodeError, and integers of thousands of digits
            raise self.refused(f"is not TOML ({_first_line(err)})") from err

    def yaml(self, text: str | None = None) -> Table:
        """The file as YAML whose values all stay text, so that version 1.10 is not read as the number 1.1.

        Aliases, keys that stand twice and more than one document are refused.
        """
        import yaml

        loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)(self.text() if text is None else text)
        try:
            value = _Tree(self).read(iter(loader.get_event, None))
        except yaml.YAMLError as err:
            raise self.refused(f"is not YAML ({_yaml_reason(err)})") from err
        finally:
            loader.dispose()
        if not isinstance(value, dict):
            raise self.refused("holds no keys and values")
        return Table(self, "", value)


@dataclass(frozen=True)
class Table:
    """Keys and values of one place in a file; what has the wrong type is refused."""

    document: Document
    place: str  # such as packages[3]; empty at the top
    values: Mapping[str, Any]

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def refused(self, what: str, cure: str = "") -> EnvError:
        """An error about this place."""
        return self.document.refused(f"has {self.place}, which {what}" if self.place else what, cure)

    def wrong(self, key: str, expected: str) -> EnvError:
        """An error about the value of ``key``."""
        return self.document.refused(
            f"has {self._at(key)} = {_shown(self.values.get(key))} where {expected} is expected"
        )

    def maybe(self, key: str) -> str:
        """The text of ``key``; empty when there is none."""
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return value

    def text(self, key: str) -> str:
        """The text of ``key``, which must be there."""
        found = self.maybe(key)
        if not found:
            raise self.document.refused(f"has no {self._at(key)}")
        return found

    def number(self, key: str) -> int | None:
        """The whole number of ``key``; None when there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            return int(value)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.wrong(key, "a whole number")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether ``key`` is true."""
        value = self.values.get(key)
        if value is None:
            return default
        if value in (True, "true", "True", "TRUE"):
            return True
        if value in (False, "false", "False", "FALSE"):
            return False
        raise self.wrong(key, "true or false")

    def items(self, key: str) -> list[Any]:
        """The list of ``key``; empty when there is none."""
        value = self.values.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self.wrong(key, "a list")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The list of texts of ``key``."""
        found = self.items(key)
        if not all(isinstance(one, str) for one in found):
            raise self.wrong(key, "a list of texts")
        return tuple(found)

    def table(self, key: str) -> Table:
        """The table of ``key``; one without values when there is none."""
        value = self.values.get(key)
        if value is None:
            return Table(self.document, self._at(key), {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return Table(self.document, self._at(key), value)

    def tables(self, key: str) -> list[Table]:
        """The list of tables of ``key``."""
        return [self._table(key, index, one) for index, one in enumerate(self.items(key))]

    def pairs(self) -> dict[str, str]:
        """All keys, whose values must be texts."""
        return {key: self.maybe(key) for key in self.values}

    def digest(self, key: str) -> Digest | None:
        """The SHA-256 of ``key``, with or without 'sha256:' before it; None when there is none."""
        value = self.maybe(key)
        if not value:
            return None
        try:
            return Digest.parse(f"sha256:{value.removeprefix('sha256:').lower()}")
        except StoreError:
            raise self.wrong(key, "a SHA-256 of 64 hexadecimal digits") from None

    def _table(self, key: str, index: int, value: object) -> Table:
        place = f"{self._at(key)}[{index}]"
        if not isinstance(value, dict):
            raise self.document.refused(f"has {place} = {_shown(value)} where a table is expected")
        return Table(self.document, place, value)

    def _at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


class _Tree:
    """Builds plain values of YAML's events, without recursion in the parser."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def read(self, events: Iterator[Any]) -> Any:
        found: list[Any] = []
        for event in events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                if found:
                    raise self.document.refused("holds more than one YAML document")
                found.append(self._node(next(events), events, 0))
        return found[0] if found else None

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Any:
        kind = type(event).__name__
        if depth > _DEPTH_MAX:
            raise self.document.refused("is nested too deeply")
        if kind == "AliasEvent":
            raise self.document.refused(
                "uses YAML aliases ('*name'), which can blow up", "Write out what they stand for."
            )
        if kind == "ScalarEvent":
            plain = event.style in (None, "") and event.implicit[0]
            return None if plain and event.value in _NULLS else event.value
        if kind == "SequenceStartEvent":
            return self._items(events, depth)
        assert kind == "MappingStartEvent", "libyaml balances its events"
        return self._mapping(events, depth)

    def _items(self, events: Iterator[Any], depth: int) -> list[Any]:
        found = []
        while type(event := next(events)).__name__ != "SequenceEndEvent":
            found.append(self._node(event, events, depth + 1))
        return found

    def _mapping(self, events: Iterator[Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            key = self._node(event, events, depth + 1)
            if not isinstance(key, str):
                raise self.document.refused(f"has a key that is no text but {_shown(key)}")
            if key in found:
                raise self.document.refused(f"has the key {key[:60]!r} twice in one place", "Leave one of them.")
            found[key] = self._node(next(events), events, depth + 1)
        return found


def _shown(value: object) -> str:
    if isinstance(value, str):
        return repr(without_credentials_in(value)[:80])
    return repr(value)[:40] if isinstance(value, (int, float)) else f"a {type(value).__name__}"


def _first_line(err: Exception) -> str:
    return (str(err).splitlines() or [type(err).__name__])[0][:200]


def _yaml_reason(err: Exception) -> str:
    problem, mark = getattr(err, "problem", None), getattr(err, "problem_mark", None)
    return f"{problem}, line {mark.line + 1}" if problem and mark else _first_line(err)
