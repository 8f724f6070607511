"""The page of a card: plain HTML without scripts, made from what a step put on it. Whatever is shown is escaped."""

from __future__ import annotations

import html
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Callable

__all__ = ["card_page"]

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left; }
pre { background: #f5f5f5; padding: .6rem; overflow: auto; } img { max-width: 100%; } figure { margin: 1rem 0; }
.error { border-left: 4px solid #b00; padding-left: .6rem; } .value { font-size: 2rem; } header { color: #666; }
"""


def card_page(card: Mapping[str, Any], facts: Mapping[str, str]) -> str:
    """A page of one card. card: as it is kept, ``{"card", "components"}``; facts: what is told of its task, by name."""
    title = facts.get("task", "card")
    told = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items())
    body = "\n".join(_shown(each) for each in card["components"])
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body><header><table>{told}</table></header>\n<main>\n{body}\n</main></body></html>\n"
    )


def _text(value: Any) -> str:
    return html.escape("" if value is None else str(value))


def _shown(component: Mapping[str, Any]) -> str:
    return _SHOWN.get(str(component.get("kind")), _as_data)(component)


def _as_data(component: Mapping[str, Any]) -> str:
    return f"<pre>{_text(json.dumps(dict(component), indent=1, default=str))}</pre>"


def _as_text(component: Mapping[str, Any]) -> str:
    return f"<pre>{_text(component.get('text'))}</pre>"


def _markdown(component: Mapping[str, Any]) -> str:
    """Headings, lists and paragraphs; all else as it was written."""
    lines: list[str] = []
    for block in str(component.get("text", "")).split("\n"):
        level = len(block) - len(block.lstrip("#"))
        if 0 < level <= 6 and block[level : level + 1] == " ":
            lines.append(f"<h{level}>{_text(block[level:].strip())}</h{level}>")
        elif block.lstrip().startswith(("- ", "* ")):
            lines.append(f"<li>{_text(block.lstrip()[2:])}</li>")
        elif block.strip():
            lines.append(f"<p>{_text(block)}</p>")
    return "\n".join(lines)


def _artifact(component: Mapping[str, Any]) -> str:
    name = f"<strong>{_text(component['name'])}</strong> " if component.get("name") else ""
    return f"<div>{name}<em>{_text(component.get('type'))}</em><pre>{_text(component.get('text'))}</pre></div>"


def _table(component: Mapping[str, Any]) -> str:
    head = "".join(f"<th>{_text(each)}</th>" for each in component.get("headers") or ())
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{_shown(cell) if isinstance(cell, dict) else _text(cell)}</td>" for cell in row)
        + "</tr>"
        for row in component.get("rows") or ()
    )
    return f"<table>{'<tr>' + head + '</tr>' if head else ''}{rows}</table>"


def _image(component: Mapping[str, Any]) -> str:
    data, label = str(component.get("base64") or ""), _text(component.get("label"))
    kind = next((kind for begin, kind in _PICTURES.items() if data.startswith(begin)), "svg+xml")
    return f'<figure><img alt="{label}" src="data:image/{kind};base64,{_text(data)}"><figcaption>{label}</figcaption></figure>'


def _progress(component: Mapping[str, Any]) -> str:
    value, most = _text(component.get("value")), _text(component.get("max"))
    told = f"{_text(component.get('label'))} {value}/{most} {_text(component.get('unit'))}"
    return f'<p><progress value="{value}" max="{most}"></progress> {told} {_text(component.get("metadata"))}</p>'


def _value(component: Mapping[str, Any]) -> str:
    change = component.get("change")
    return (
        f'<div><strong>{_text(component.get("title"))}</strong><div class="value">{_text(component.get("value"))}</div>'
        f"{_text(component.get('subtitle'))} {_text(change)}</div>"
    )


def _error(component: Mapping[str, Any]) -> str:
    return f'<div class="error"><strong>{_text(component.get("title"))}</strong>{_as_text(component)}</div>'


def _events(component: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<li>{_text(', '.join(f'{name}: {value}' for name, value in event.items()))}</li>"
        for event in component.get("events") or ()
    )
    return f"<div><strong>{_text(component.get('title'))}</strong><ol>{rows}</ol></div>"


def _chart(component: Mapping[str, Any]) -> str:
    return f"<figure><figcaption>Vega-Lite</figcaption><pre>{_text(component.get('spec'))}</pre></figure>"


_PICTURES = {"iVBOR": "png", "/9j/": "jpeg", "R0lG": "gif", "UklG": "webp"}
"""How pictures begin, in base64."""
_SHOWN: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "artifact": _artifact,
    "code": _as_text,
    "custom": _as_text,
    "error": _error,
    "events": _events,
    "image": _image,
    "json": _as_text,
    "markdown": _markdown,
    "progress": _progress,
    "table": _table,
    "value": _value,
    "vega": _chart,
}
