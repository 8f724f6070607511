"""Canonical codes of pictures: PIL images by their pixels, matplotlib figures as they are drawn at a fixed resolution."""

from __future__ import annotations

import hashlib
import io
import sys
import warnings

from stillrun.canonical import Coder, UnknownTypeError
from stillrun.canonical_objects import code_by_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["code_of_image", "code_of_matplotlib"]

DPI = 100  # dots per inch at which a figure is drawn to be compared
_PLACES = ("original", "active")
_DRAWN_WITH = {
    "savefig.bbox": None,
    "savefig.pad_inches": 0.1,
    "savefig.facecolor": "auto",
    "savefig.edgecolor": "auto",
}


def code_of_image(coder: Coder, value: Any) -> bytes:
    """The code of a value from PIL: of an image its mode, size, pixels and palette, and which colour is transparent."""
    image: Any = sys.modules["PIL.Image"]
    if not isinstance(value, image.Image):
        return code_by_state(coder, value)
    pixels = hashlib.sha256(value.tobytes()).digest()  # reads a file that was only opened
    colours = _palette(value) if value.mode in ("P", "PA") else None
    return coder.record("PIL.Image", value.mode, value.size, pixels, colours, value.info.get("transparency"))


def _palette(image: Any) -> bytes:
    """The palette as pickle keeps it: in RGB, greys if it was never set; unused colours at its end come and go."""
    given = image.getpalette("RGB") if image.palette is not None else None
    return bytes(given or [grey for grey in range(256) for _ in range(3)]).rstrip(b"\0")


def code_of_matplotlib(coder: Coder, value: Any) -> bytes:
    """The code of a value from matplotlib: a figure as drawn, axes by their figure; colours and the like by state."""
    artist: Any = sys.modules.get("matplotlib.artist")
    figure: Any = sys.modules.get("matplotlib.figure")
    axes: Any = sys.modules.get("matplotlib.axes")
    if figure is not None and isinstance(value, figure.Figure):
        return _figure(coder, value)
    if axes is not None and isinstance(value, axes.Axes) and isinstance(value.figure, figure.Figure):
        return coder.tagged("matplotlib.Axes", _figure(coder, value.figure), coder.code(value.figure.axes.index(value)))
    if artist is not None and isinstance(value, artist.Artist):
        raise UnknownTypeError(type(value).__qualname__)  # it knows its figure, and that all others
    if type(value).__name__ == "CallbackRegistry":  # who is told of changes; asking for its state changes it
        return coder.tagged("matplotlib.CallbackRegistry")
    return code_by_state(coder, value)


def _figure(coder: Coder, figure: Any) -> bytes:
    """What is seen, and the data that may lie outside of it."""
    matplotlib: Any = sys.modules["matplotlib"]
    seen, margins = io.BytesIO(), dict(vars(figure.subplotpars))
    places = [
        (axes, which, axes.get_position(which == "original").frozen()) for axes in figure.axes for which in _PLACES
    ]
    with warnings.catch_warnings(), matplotlib.rc_context(_DRAWN_WITH):
        warnings.simplefilter("ignore")  # a missing glyph was told when the figure was made
        figure.savefig(seen, format="rgba", dpi=DPI, transparent=False)
    if vars(figure.subplotpars) != margins:  # layouts move on each time that they are drawn
        figure.subplots_adjust(**margins)
    for axes, which, place in places:
        axes._set_position(place, which)  # set_position would take the axes out of the layout
    size = tuple(float(each) for each in figure.get_size_inches())
    data = [_data(coder, axes) for axes in figure.axes]
    return coder.tagged(
        "matplotlib.Figure", coder.code(size), coder.code(hashlib.sha256(seen.getbuffer()).digest()), *data
    )


def _data(coder: Coder, axes: Any) -> bytes:
    lines = [coder.keep(line.get_xydata()) for line in axes.lines]
    images = [coder.keep(image.get_array()) for image in axes.images]
    groups = [coder.keep((each.get_offsets(), each.get_array())) for each in axes.collections]
    return coder.record("matplotlib.data", lines, images, groups)
