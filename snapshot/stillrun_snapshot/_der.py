"""As much of DER (X.690) as time stamps need: values by tag, nothing of indefinite length."""

from __future__ import annotations

from collections.abc import Sequence

from stillrun_snapshot.deferred import dataclass

__all__ = ["Value", "encode", "integer", "object_identifier", "parse"]


@dataclass(frozen=True)
class Value:
    """One value: its tag, its content, and its bytes with both."""

    tag: int
    content: bytes
    whole: bytes

    @property
    def children(self) -> list[Value]:
        """The values that a constructed one consists of. Raises ValueError."""
        found, rest = [], self.content
        while rest:
            value = _first(rest)
            found.append(value)
            rest = rest[len(value.whole) :]
        return found


def parse(data: bytes) -> Value:
    """Return the one value that ``data`` is; raises ValueError."""
    value = _first(data)
    if len(value.whole) != len(data):
        raise ValueError("something stands behind its end")
    return value


def encode(tag: int, content: bytes | Sequence[bytes]) -> bytes:
    """Return a value with its length."""
    body = content if isinstance(content, bytes) else b"".join(content)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def integer(number: int) -> bytes:
    """Return an INTEGER that is not negative."""
    return encode(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = map(int, dotted.split("."))
    body = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        body += bytes(reversed(groups))
    return encode(0x06, bytes(body))


def _first(data: bytes) -> Value:
    if len(data) < 2 or data[0] & 0x1F == 0x1F:
        raise ValueError("it ends too early, or has a tag that is not used here")
    size, begin = data[1], 2
    if size & 0x80:
        count = size & 0x7F
        begin += count
        if not 0 < count <= 4 or len(data) < begin:
            raise ValueError("a length in it is none")
        size = int.from_bytes(data[2:begin], "big")
    if len(data) < begin + size:
        raise ValueError("it is cut off")
    return Value(data[0], data[begin : begin + size], data[: begin + size])
