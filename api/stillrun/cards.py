"""What a step wants to show: components that hold plain data. They are kept with the task; pages are made from them later."""

from __future__ import annotations

import base64
import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

__all__ = [
    "Artifact",
    "Card",
    "CardBox",
    "Cards",
    "Component",
    "DefaultCard",
    "Error",
    "EventsTimeline",
    "Image",
    "JSONViewer",
    "Markdown",
    "MetaflowCard",
    "MetaflowCardComponent",
    "ProgressBar",
    "PythonCode",
    "Table",
    "ValueBox",
    "VegaChart",
    "YAMLViewer",
    "get_cards",
]

_TEXT_MAX = 100_000
_DATA_MAX = 10_000_000


class Component:
    """One piece of a card. ``data`` is what is kept: plain JSON."""

    kind = "text"

    def __init__(self, **data: Any) -> None:
        self.data: dict[str, Any] = data
        self.id: str | None = None

    def to_record(self) -> dict[str, Any]:
        """The component as it is kept."""
        return {"kind": self.kind, "id": self.id, **self.data}


class Markdown(Component):
    """Text with Markdown in it."""

    kind = "markdown"

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text=str(text or "")[:_TEXT_MAX])

    def update(self, text: str | None = None) -> None:
        """Another text."""
        self.data["text"] = str(text or "")[:_TEXT_MAX]


class Artifact(Component):
    """A value, as text."""

    kind = "artifact"

    def __init__(self, artifact: Any, name: str | None = None, compressed: bool = True) -> None:
        super().__init__(name=name, type=type(artifact).__name__, text=_shown(artifact))


class Table(Component):
    """Rows of values or of components."""

    kind = "table"

    def __init__(
        self,
        data: Sequence[Sequence[Any]] | None = None,
        headers: Sequence[str] | None = None,
        disable_updates: bool = False,
    ) -> None:
        rows = [[_cell(each) for each in row] for row in data or []]
        super().__init__(headers=[str(each) for each in headers or []], rows=rows)

    @classmethod
    def from_dataframe(cls, dataframe: Any = None, truncate: bool = True) -> Table:
        """The head of a pandas frame."""
        head = dataframe.head(5) if truncate else dataframe
        rows = [[index, *row] for index, row in zip(head.index.tolist(), head.to_numpy().tolist())]  # 3.8
        return cls(rows, headers=["", *map(str, head.columns)])


class Image(Component):
    """A picture: PNG, JPEG or SVG bytes."""

    kind = "image"

    def __init__(self, src: bytes | str | None = None, label: str | None = None, disable_updates: bool = True) -> None:
        data = src if isinstance(src, bytes) else b""
        super().__init__(label=label, base64=base64.b64encode(data[:_DATA_MAX]).decode())

    @classmethod
    def from_matplotlib(cls, plot: Any, label: str | None = None, disable_updates: bool = False) -> Image:
        """A matplotlib figure or axes."""
        import io

        figure = plot.get_figure() if hasattr(plot, "get_figure") and not hasattr(plot, "savefig") else plot
        out = io.BytesIO()
        figure.savefig(out, format="png")
        return cls(out.getvalue(), label)

    @classmethod
    def from_pil_image(cls, pilimage: Any, label: str | None = None, disable_updates: bool = False) -> Image:
        """A PIL image."""
        import io

        out = io.BytesIO()
        pilimage.save(out, format="PNG")
        return cls(out.getvalue(), label)


class Error(Component):
    """An exception."""

    kind = "error"

    def __init__(self, exception: BaseException, title: str | None = None) -> None:
        super().__init__(title=title, text=f"{type(exception).__name__}: {exception}")


class ProgressBar(Component):
    """How far something is."""

    kind = "progress"

    def __init__(
        self,
        max: int = 100,  # noqa: A002  # the word that flows use
        label: str | None = None,
        value: int = 0,
        unit: str | None = None,
        metadata: str | None = None,
    ) -> None:
        super().__init__(max=str(max), label=label, value=str(value), unit=unit, metadata=metadata)

    def update(self, new_value: int, metadata: str | None = None) -> None:
        """Another value."""
        self.data["value"], self.data["metadata"] = str(new_value), metadata


class VegaChart(Component):
    """A chart in the language of Vega-Lite."""

    kind = "vega"

    def __init__(self, spec: Mapping[str, Any], show_controls: bool = False) -> None:
        super().__init__(spec=json.dumps(spec, default=str)[:_DATA_MAX])

    @classmethod
    def from_altair_chart(cls, altair_chart: Any) -> VegaChart:
        """A chart of Altair."""
        return cls(altair_chart.to_dict())

    def update(self, spec: Mapping[str, Any]) -> None:
        """Another chart."""
        self.data["spec"] = json.dumps(spec, default=str)[:_DATA_MAX]


class ValueBox(Component):
    """One number with its title."""

    kind = "value"

    def __init__(
        self,
        value: Any,
        title: str | None = None,
        subtitle: str | None = None,
        theme: str | None = None,
        change_indicator: str | None = None,
    ) -> None:
        super().__init__(value=str(value), title=title, subtitle=subtitle, theme=theme, change=change_indicator)


class PythonCode(Component):
    """Source code."""

    kind = "code"

    def __init__(self, code_func: Any = None, code_string: str | None = None) -> None:
        import inspect

        super().__init__(text=(code_string or (inspect.getsource(code_func) if code_func else ""))[:_TEXT_MAX])


class JSONViewer(Component):
    """Data, as JSON."""

    kind = "json"

    def __init__(self, data: Any, collapsible: bool = True, max_height: str | None = None) -> None:
        super().__init__(text=json.dumps(data, default=str, indent=1)[:_TEXT_MAX])


class YAMLViewer(JSONViewer):
    """Data, as text."""


class EventsTimeline(Component):
    """Things that happened, with their times."""

    kind = "events"

    def __init__(self, title: str | None = None, max_events: int = 100) -> None:
        super().__init__(title=title, events=[])
        self._most = max_events

    def update(self, event_data: Mapping[str, Any], **_: Any) -> None:
        """One more event."""
        events: list[Any] = self.data["events"]
        events.append({str(key): str(value) for key, value in event_data.items()})
        del events[: -self._most]


class MetaflowCardComponent(Component):
    """For components that a flow defines itself: what ``render`` gives is kept as text."""

    def render(self) -> Any:
        """What is shown."""
        return ""

    def to_record(self) -> dict[str, Any]:
        """The component as it is kept."""
        return {"kind": "custom", "id": getattr(self, "id", None), "text": str(self.render())[:_TEXT_MAX]}


class MetaflowCard:
    """For card types that a flow defines itself."""

    type: str | None = None

    def render(self, task: Any) -> str:
        """The page."""
        return ""


class _Components(list):  # type: ignore[type-arg]  # of components
    """The components of a card, by position, and by the id that they were given."""

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        found = next((each for each in self if each.id == key), None)
        if found is None:
            there = ", ".join(each.id for each in self if each.id) or "none"
            raise KeyError(f"there is no component with the id {key!r}; there are: {there}.")
        return found


class DefaultCard(MetaflowCard):
    """The card of a step that says no type."""

    type = "default"


class CardBox:
    """The components of one card of a task, in order."""

    def __init__(self, card: Mapping[str, Any]) -> None:
        self.card = card
        self.components = _Components()

    def append(self, component: Any, id: str | None = None) -> None:  # noqa: A002  # the word that flows use
        """One more."""
        found = component if hasattr(component, "to_record") else Artifact(component)
        found.id = id
        self.components.append(found)

    def extend(self, components: Iterable[Any]) -> None:
        """Several more."""
        for each in components:
            self.append(each)

    def clear(self) -> None:
        """Take all out."""
        self.components.clear()

    def refresh(self, *_: Any, **__: Any) -> None:
        """Nothing: a card is kept when its task ends."""


class Cards(CardBox):
    """``current.card``: the card without an id, and others by their id."""

    def __init__(self, asked: Sequence[Mapping[str, Any]]) -> None:
        nameless = [card for card in asked if not card.get("id")]
        super().__init__(nameless[0] if nameless else {})
        self._nameless = [CardBox(card) for card in nameless[1:]]
        self._asked_nameless = bool(nameless)
        self._named = {str(card["id"]): CardBox(card) for card in asked if card.get("id")}

    def __getitem__(self, name: str) -> CardBox:
        if name not in self._named:
            raise KeyError(f"there is no card with the id {name!r}; there are: {', '.join(self._named) or 'none'}.")
        return self._named[name]

    def __iter__(self) -> Iterator[CardBox]:
        return iter((self, *self._nameless, *self._named.values()))

    def get(self, type: str | None = None) -> list[CardBox]:  # noqa: A002  # the word that flows use
        """The cards of a type."""
        return [each for each in self if type is None or each.card.get("type", "default") == type]

    def to_records(self) -> list[dict[str, Any]]:
        """The cards, as they are kept."""
        boxes = [box for box in self if box is not self or self._asked_nameless or self.components]
        return [{"card": dict(box.card), "components": [one.to_record() for one in box.components]} for box in boxes]


class Card:
    """One card of a finished task: ``get()`` gives its page, ``components`` what was put on it."""

    def __init__(self, task: Any, kept: Mapping[str, Any]) -> None:
        self._task, self._kept = task, kept
        asked = kept["card"]
        self.id: str | None = asked.get("id")
        self.type = str(asked.get("type") or "default")
        self.components: list[dict[str, Any]] = list(kept["components"])

    @property
    def hash(self) -> str:
        """A name for its content."""
        import hashlib

        return hashlib.sha256(json.dumps(self._kept, sort_keys=True).encode()).hexdigest()

    @property
    def html(self) -> str:
        """Its page; of the type ``html`` what the step kept as ``self.html``."""
        from stillrun.card_page import card_page

        if self.type == "html" and "html" in self._task:
            return str(self._task["html"].data)
        facts = {"task": self._task.pathspec, "card": " ".join(filter(None, (self.type, self.id)))}
        shown = {each.id: each.preview for each in self._task}
        return card_page(self._kept, {**facts, **(shown if self.type == "default" else {})})

    def get(self) -> str:
        """Its page."""
        return self.html

    def get_data(self) -> dict[str, Any]:
        """What is kept of it."""
        return dict(self._kept)

    def view(self) -> None:
        """Open its page in a browser."""
        import pathlib
        import tempfile
        import webbrowser

        with tempfile.NamedTemporaryFile("w", suffix=".html", delete=False, encoding="utf-8") as file:
            file.write(self.html)
        webbrowser.open(pathlib.Path(file.name).as_uri())

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<card {self.type} {self.id or ''} of {self._task.pathspec}>"


def get_cards(task: Any, id: str | None = None, type: str | None = None, follow_resumed: bool = True) -> list[Card]:  # noqa: A002
    """The cards of a finished task, which is given as the client's object or by its pathspec."""
    if isinstance(task, str):
        from stillrun import client

        task = client.Task(task)
    found = [Card(task, each) for each in task.cards]
    return [each for each in found if id in (None, each.id) and type in (None, each.type)]


def _cell(value: Any) -> Any:
    return value.to_record() if isinstance(value, Component) else _shown(value)


def _shown(value: Any) -> str:
    try:
        return (value if isinstance(value, str) else repr(value))[:_TEXT_MAX]
    except Exception as err:  # a value that cannot be shown is no failure of the step
        return f"<{type(value).__name__}: {type(err).__name__}>"
