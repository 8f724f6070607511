"""No text of strangers is taken for anything but text, wherever it stands."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillrun_reports.evidence.spelling import document, identifier, markdown, plain, xml

ANY = st.text(st.characters(), max_size=60)
STEERING = [
    "\x1b[31m",
    "\x00",
    "\x07",
    "\x9b2J",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u2028",
    "\ufeff",
    "\udc80",
    "\x7f",
    "\u200b",
]


@given(ANY)
def test_nothing_that_steers_is_left(text: str) -> None:
    for shown in (plain(text), markdown(text), document({"name": text}), xml(text)):
        assert not any((ord(one) < 32 and one != "\n") or 127 <= ord(one) < 160 for one in shown)
        assert not any(
            one in shown for one in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028\u2029"
        )
        shown.encode()  # no surrogates either


@given(ANY)
def test_json_still_says_what_it_said(text: str) -> None:
    """Law: reading a document gives back what was written."""
    assert json.loads(document({text: [text, {"a": text}]})) == {text: [text, {"a": text}]}


@given(ANY)
def test_xml_can_hold_it(text: str) -> None:
    element = ElementTree.Element("a", b=xml(text))
    element.text = xml(text)
    assert ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8")).tag == "a"


@given(ANY)
def test_markdown_has_no_mark_of_its_own_left(text: str) -> None:
    inner = markdown(text).removeprefix("<code>").removesuffix("</code>")
    assert "\n" not in inner
    assert not set(inner) & set("<>|`*_[]()!~$@:\\\"'{}")


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_is_shown_as_an_escape(text: str) -> None:
    assert plain(text).startswith("\\")


def test_names_that_forges_would_link_are_not_linked() -> None:
    told = markdown("www.evil.example @someone #12 http://x </code><script>")
    assert "www." not in told
    assert not any(one in told.removeprefix("<code>").removesuffix("</code>") for one in ("@", "://", "<"))


@given(ANY.filter(lambda text: text.isprintable()))
def test_an_identifier_is_ascii_and_has_no_slash_of_a_name(text: str) -> None:
    told = identifier(text, "x")
    assert told.isascii()
    assert told.count("/") == 1
