"""Differences between pictures: which pixels, and of figures the data that they show."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from stillrun.compare import Comparison

__all__ = ["compare_figures", "compare_images"]


def compare_images(walk: Comparison, a: Any, b: Any, place: str) -> None:
    """Compare two images of Pillow."""
    if (a.mode, a.size) != (b.mode, b.size):
        walk.differs("shape", place, f"{a.mode} {a.size}", f"{b.mode} {b.size}")
        return
    from PIL import ImageChops  # type: ignore[import-not-found,unused-ignore]

    delta = ImageChops.difference(a.convert("RGBA"), b.convert("RGBA")).convert("RGB")
    pixels = sum(1 for value in delta.convert("L").tobytes() if value)
    if a.tobytes() != b.tobytes():
        more = {"differing": pixels, "of": a.size[0] * a.size[1], "share": pixels / max(1, a.size[0] * a.size[1])}
        walk.differs("pixels", place, f"{a.size} {a.mode}", f"changed within {delta.getbbox()}", **more)


def compare_figures(walk: Comparison, a: Any, b: Any, place: str) -> None:
    """Compare two figures of Matplotlib as they are drawn, and what is drawn."""
    numpy: Any = sys.modules["numpy"]
    pixels = [_drawn(walk, each) for each in (a, b)]
    if pixels[0].shape != pixels[1].shape:
        walk.differs("shape", place, str(pixels[0].shape), str(pixels[1].shape))
    else:
        unlike = (pixels[0] != pixels[1]).any(axis=2)
        count = int(numpy.count_nonzero(unlike))
        if count:
            rows, columns = unlike.any(axis=1).nonzero()[0], unlike.any(axis=0).nonzero()[0]
            box = f"rows {rows[0]} to {rows[-1]}, columns {columns[0]} to {columns[-1]}"
            more = {"differing": count, "of": int(unlike.size), "share": count / unlike.size}
            walk.differs("pixels", place, f"{unlike.shape[1]} x {unlike.shape[0]} pixels", f"changed in {box}", **more)
    if len(a.axes) != len(b.axes):
        walk.differs("length", f"{place}.axes", f"{len(a.axes)} axes", f"{len(b.axes)} axes")
    for at, (one, other) in enumerate(zip(a.axes, b.axes)):
        _axes(walk, one, other, f"{place}.axes[{at}]")


def _drawn(walk: Comparison, figure: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # type: ignore[import-not-found,unused-ignore]

    figure.set_dpi(100)
    canvas = walk.keep(FigureCanvasAgg(figure))
    canvas.draw()
    return numpy.asarray(canvas.buffer_rgba())


def _corners(patch: Any) -> Any:
    """Of a bar, say, in the units of the plot."""
    return patch.get_patch_transform().transform(patch.get_path().vertices)


_SHOWN: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (  # what axes hold, how its data are called, and found
    ("lines", "get_xydata()", lambda line: line.get_xydata()),
    ("images", "get_array()", lambda image: image.get_array()),
    ("collections", "get_offsets()", lambda points: points.get_offsets()),
    ("collections", "get_array()", lambda points: points.get_array()),
    ("patches", "get_path()", _corners),
    ("texts", "get_text()", lambda text: text.get_text()),
)


def _axes(walk: Comparison, a: Any, b: Any, place: str) -> None:
    """Compare the data of two plots."""
    for name in ("get_title", "get_xlabel", "get_ylabel"):
        walk.walk(getattr(a, name)(), getattr(b, name)(), f"{place}.{name}()")
    for kind, call, data_of in _SHOWN:
        before, after = getattr(a, kind), getattr(b, kind)
        if len(before) != len(after):
            walk.differs("length", f"{place}.{kind}", f"{len(before)} {kind}", f"{len(after)} {kind}")
        for at, (one, other) in enumerate(zip(before, after)):
            values = [walk.keep(data_of(each)) for each in (one, other)]
            walk.walk(values[0], values[1], f"{place}.{kind}[{at}].{call}")
