"""A figure as SVG inside a page: text in the page's font, colours as CSS variables, parts known by rate and seed.

What Matplotlib writes is read back as a tree, so that nothing depends on how it lays out its text. The page's script gets the
places of the panels, to find a value under the pointer and to draw what is not in the figure (`Place`).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib
import matplotlib.colors
from matplotlib.backends.backend_svg import FigureCanvasSVG

from etude.present import palette
from etude.present.figures import STYLE
from etude.present.layout import BAR_LABEL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
PLATEAU = matplotlib.colors.to_hex(palette.ramp()(0.6))
# The page's colours, light and dark; contrast of text on paper and on wash is 4.5 or more in both (a test says so).
PAGE = {
    "ink": (palette.INK, "#e8eaef"),
    "quiet": ("#5b6577", "#a3adbb"),
    "grid": (palette.GRID, "#2c333d"),
    "paper": ("#ffffff", "#14171c"),
    "wash": ("#f4f5f8", "#1d2229"),
    "accent": (PLATEAU, "#f08ba6"),
}
_NUMBER = re.compile(r"-?\d+\.\d+")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_URL = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a panel lies in its SVG: left, top, right, bottom, and what is at its edges.

    ``x`` and ``y`` have ``scale`` (``linear``, ``log``, or ``share``: the logarithm of the error left) and ``ends``.
    """

    box: tuple[float, float, float, float]
    x: tuple[str, float, float]
    y: tuple[str, float, float]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure for a page: its ``svg`` element, and the places of its panels."""

    svg: str
    places: tuple[Place, ...]


class Theme:
    """The colours of a page: those of its text and paper, and one a rate, lowest first, light and dark."""

    def __init__(self, lrs: Iterable[float]):
        self.lrs = tuple(sorted(set(lrs)))
        light, dark = (palette.colours(self.lrs, dark=dark) if self.lrs else {} for dark in (False, True))
        self._shades = {**PAGE}
        self._shapes = {shades[0]: f"var(--{name})" for name, shades in PAGE.items()} | {
            palette.QUIET: "var(--quiet)",
            "#000000": "var(--ink)",
        }
        self._texts = dict(self._shapes)
        for i, lr in enumerate(self.lrs):
            text = palette.for_text(light[lr])
            self._shades |= {f"rate{i}": (light[lr], dark[lr]), f"text{i}": (text, dark[lr])}
            self._shapes.setdefault(light[lr], f"var(--rate{i})")
            self._texts |= {light[lr]: f"var(--text{i})", text: f"var(--text{i})"}

    def variables(self, *, dark: bool) -> str:
        """Return the CSS that sets the variables."""
        return "".join(f"--{name}:{shades[dark]};" for name, shades in self._shades.items())

    def variable(self, colour: str, *, of_text: bool) -> str:
        """Return the variable that stands for a colour of a figure, or the colour where there is none."""
        return (self._texts if of_text else self._shapes).get(colour, colour)


def draw(figure: Figure, prefix: str, theme: Theme, alt: str) -> Drawn:
    """Return a figure for a page; ``prefix`` keeps its ids apart from those of other figures, ``alt`` is said in its place."""
    for ax in _panels(figure):
        for text in ax.texts:
            text.set_path_effects([])  # they would make paths of the letters; the page's own style does it
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]  # savefig would lay all out and draw it twice
    root = ElementTree.fromstring(out.getvalue())
    _clean(root, prefix, theme)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": alt}
    ElementTree.register_namespace("", SVG[1:-1])
    written = ElementTree.tostring(root, encoding="unicode").replace(f' xmlns="{SVG[1:-1]}"', "")
    return Drawn(svg=written, places=tuple(_place(ax, figure) for ax in _panels(figure)))


def _clean(root: ElementTree.Element, prefix: str, theme: Theme) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{SVG}metadata" or child.find(f"{SVG}style") is not None or _is_paper(child):
                parent.remove(child)
    used = {url for e in root.iter() for value in e.attrib.values() for url in _URL.findall(value)}
    used |= {e.attrib[LINK][1:] for e in root.iter() if LINK in e.attrib}
    short = {name: f"{prefix}{i}" for i, name in enumerate(sorted(used))}
    for element in root.iter():
        kind, *whose = element.get("id", "").split(":")
        if kind == "seeds":
            for dot, seed in zip(element.iter(f"{SVG}use"), whose[1:], strict=True):
                dot.set("data-seed", seed)
        if kind == "each":
            for part, lr in zip(element, whose[1:], strict=True):
                part.set("id", f"{whose[0]}:{lr}")  # it is named in its turn
        made: dict[str, str] = {}
        for name, value in element.attrib.items():
            if name == "id":
                made |= {"id": short[value]} if value in short else _whose(value)
            elif name == LINK:
                made["href"] = f"#{short[value[1:]]}"
            elif name == "style":
                made["style"] = _style(value, element.tag == f"{SVG}text", theme)
            else:
                value = _URL.sub(lambda found: f"url(#{short[found[1]]})", value)
                digits = {"transform": 3, "d": 1}.get(name, 2)  # points; a tenth is finer than what is seen
                made[name] = _NUMBER.sub(lambda n: f"{float(n[0]):.{digits}f}".rstrip("0").rstrip("."), value)  # noqa: B023
        if "d" in made:
            made["d"] = " ".join(made["d"].split())
        element.attrib = made
        element.tail = None
        if element.tag != f"{SVG}text":
            element.text = None


def _is_paper(element: ElementTree.Element) -> bool:
    """Whether it is the background of figure or axes: the page has its own."""
    return element.get("id", "").startswith("patch_") and all(
        "fill: #ffffff" in (path.get("style") or "") or "fill: none" in (path.get("style") or "") for path in element
    ) and not any("stroke" in (path.get("style") or "") for path in element)  # fmt: skip


def _whose(gid: str) -> dict[str, str]:
    """Return the class and the data attributes of a part that `etude.present.axes.mark` has named."""
    kind, *whose = gid.split(":")
    if kind.startswith("axes_"):
        return {"class": "panel", "data-panel": str(int(kind.removeprefix("axes_")) - 1)}
    if "_" in kind or kind in ("matplotlib.axis", "each"):  # names that Matplotlib gives itself; a collection's
        return {}
    return {"class": kind, **({"data-lr": whose[0]} if whose else {})}


def _style(style: str, of_text: bool, theme: Theme) -> str:
    """Turn colours into variables, and leave the font to the page: all of it but its size and weight."""
    kept = []
    for part in style.split(";"):
        name, _, value = (text.strip() for text in part.partition(":"))
        if name == "font":  # "700 9px 'DejaVu Sans', …"
            weight, size = re.match(r"(?:(\d+|bold) )?\D*?([\d.]+px)", value).groups()  # type: ignore[union-attr]
            kept += [f"font-size:{size}"] + ([f"font-weight:{weight}"] if weight else [])
        elif name and name != "font-family":
            value = _COLOUR.sub(lambda found: theme.variable(found[0], of_text=of_text), value)
            kept.append(f"{name}:{value}")
    return ";".join(kept)


def _panels(figure: Figure) -> list[Any]:
    """Return the axes that show data: not a colour bar's, nor one that only holds others."""
    panels = []
    for ax in figure.axes:
        if ax.get_label() != BAR_LABEL:
            panels += ax.child_axes or [ax]
    return panels


def _place(ax: Any, figure: Figure) -> Place:
    width, height = (72 * inches for inches in figure.get_size_inches())
    box = ax.get_window_extent().transformed(figure.transFigure.inverted())
    return Place(
        box=(float(box.x0 * width), float((1 - box.y1) * height), float(box.x1 * width), float((1 - box.y0) * height)),
        x=(_scale(ax.get_xscale()), *map(float, ax.get_xlim())),  # type: ignore[arg-type]
        y=(_scale(ax.get_yscale()), *map(float, ax.get_ylim())),  # type: ignore[arg-type]
    )


def _scale(name: str) -> str:
    return "share" if name == "function" else name
