"""Block diagrams: boxes named as in the code, shapes on the arrows, drawn as SVG whose text can be selected.

The author says in which row and column a box stands; sizes, gaps, the ways of arrows and the places of labels
follow. A drawing is never wider than a phone can show with letters of 12 pixels, and texts never overlap.
"""

import html
from collections.abc import Sequence
from typing import NamedTuple

from lib.notebook.layout import SIZE, Layout, laid_out
from lib.notebook.lettering import runs, written
from lib.notebook.parts import Arrow, Box, Group, Node, Point
from lib.notebook.pictures import COLORS, caption_html, plain_text, publish

WIDEST = 416  # a phone's 358 pixels show letters of size 14 with 12 pixels
SIDES = ("top", "bottom", "left", "right")


class Look(NamedTuple):
    """How the boxes of one kind are drawn."""

    color: str
    shape: str
    dashed: bool = False


# A kind is told by its shape, its colour, and what is written in it.
KINDS = {
    "data": Look(COLORS["data"], "pill"),
    "latent": Look(COLORS["latent"], "pill"),
    "noise": Look(COLORS["noise"], "pill", dashed=True),
    "network": Look(COLORS["model"], "box"),
    "operation": Look("currentColor", "plate"),
    "loss": Look("currentColor", "double"),
    "text": Look("none", "bare"),
}


class Diagram:
    """Boxes, arrows and frames, and the sentence that says what they show.

    ```python
    Diagram(
        "An image x goes through the encoder and becomes a code z of 16 numbers.",
        [Node("x", (0, 0), "data"), Node("encoder", (1, 0)), Node("z", (2, 0), "latent")],
        [Arrow("x", "encoder", "B×1×28×28"), Arrow("encoder", "z", "B×16")],
    )
    ```
    Raises ValueError, naming the argument, for an alt text that is no sentence, names that are unknown or used twice,
    two nodes in one place, kinds and sides that do not exist, and empty texts. `mark` names a box to be filled.
    """

    def __init__(
        self,
        alt: str,
        nodes: Sequence[Node],
        arrows: Sequence[Arrow],
        groups: Sequence[Group] = (),
        mark: str = "",
    ):
        self.alt = plain_text(alt, "alt")
        if not self.alt.endswith((".", "!", "?")):
            raise ValueError(f"alt must be a sentence that ends with a full stop, got {alt!r}")
        self.nodes, self.arrows, self.groups = tuple(nodes), tuple(arrows), tuple(groups)
        self.mark = mark
        _check_nodes(self.nodes, self.groups)
        known = {node.name for node in self.nodes}
        for arrow in self.arrows:
            _check_arrow(arrow, known)
        if mark and mark not in known:
            raise ValueError(f"mark must be the name of a node, got {mark!r}")

    def collapsed(self, group: str, alt: str) -> "Diagram":
        """The same drawing with a group as one box, which bears its name and note."""
        found = self._group(group)
        inside = set(found.nodes)
        place = next(node.at for node in self.nodes if node.name == found.nodes[0])
        box = Node(found.name, place, note=found.note)
        nodes = [node for node in self.nodes if node.name not in inside]
        ends = dict.fromkeys(inside, found.name)
        arrows = [
            arrow._replace(source=ends.get(arrow.source, arrow.source), target=ends.get(arrow.target, arrow.target))
            for arrow in self.arrows
            if not {arrow.source, arrow.target} <= inside
        ]
        groups = [other for other in self.groups if not inside & set(other.nodes)]
        return Diagram(alt, [*nodes, box], list(dict.fromkeys(arrows)), groups)

    def zoomed(self, group: str, alt: str) -> "Diagram":
        """The group alone, and the boxes next to it."""
        inside = set(self._group(group).nodes)
        arrows = [arrow for arrow in self.arrows if {arrow.source, arrow.target} & inside]
        seen = inside.union(*({arrow.source, arrow.target} for arrow in arrows))
        groups = [other for other in self.groups if set(other.nodes) <= seen]
        return Diagram(alt, [node for node in self.nodes if node.name in seen], arrows, groups)

    def marked(self, name: str, alt: str) -> "Diagram":
        """The same drawing with one box filled: the one that the text speaks of."""
        return Diagram(alt, self.nodes, self.arrows, self.groups, name)

    def layout(self) -> Layout:
        """Where everything stands. Raises ValueError where texts overlap, naming both, or it is wider than a phone."""
        layout = laid_out(self.nodes, self.arrows, self.groups)
        if found := layout.clashes():
            raise ValueError(f"the diagram has no room for all: {'; '.join(found)}. Move a node, or give a side")
        if layout.size.width > WIDEST:
            raise ValueError(f"the diagram must be at most {WIDEST} wide for phones, got {layout.size.width:.0f}")
        return layout

    def svg(self) -> str:
        """The drawing as one `<svg>`. It needs no style sheet, and its colours follow those of the text around it."""
        layout = self.layout()
        parts = [_frame(*frame) for frame in layout.frames]
        parts += [_line(way, arrow.dashed) for arrow, way in layout.ways]
        parts += [_box(node, layout.boxes[node.name], node.name == self.mark) for node in self.nodes]
        parts += [written(arrow.label, spot.x, spot.y, SIZE) for arrow, spot in layout.labels]
        left, top, width, height = (round(edge) for edge in layout.size)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(self.alt)}" '
            f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}" '
            f'style="display:block;max-width:100%;height:auto;margin:0 auto">'
            f"<desc>{html.escape(self.alt)}</desc>{''.join(parts)}</svg>"
        )

    def _group(self, name: str) -> Group:
        for group in self.groups:
            if group.name == name:
                return group
        raise ValueError(f"group must be one of {[group.name for group in self.groups]}, got {name!r}")


def show_diagram(diagram: Diagram, caption: str | None = None) -> None:
    """Displays a diagram. Its alt text is its own; `caption` says the conclusion, in plain text."""
    publish({"text/html": diagram_html(diagram, caption)}, diagram.alt)


def diagram_html(diagram: Diagram, caption: str | None = None) -> str:
    """The HTML that `show_diagram` displays."""
    return f'<figure class="book-figure">{diagram.svg()}{caption_html(caption)}</figure>'


def _check_nodes(nodes: Sequence[Node], groups: Sequence[Group]) -> None:
    names: set[str] = set()
    places: dict[tuple, str] = {}
    for node in nodes:
        plain_text(node.name, "name of a node")
        if node.kind not in KINDS:
            raise ValueError(f"kind of {node.name!r} must be one of {', '.join(KINDS)}, got {node.kind!r}")
        if node.name in names:
            raise ValueError(f"nodes holds two of the name {node.name!r}")
        at = node.at if isinstance(node.at, tuple) else ()
        if len(at) != 2 or not all(isinstance(place, int | float) and place >= 0 for place in at):
            raise ValueError(f"at of {node.name!r} must be a row and a column from 0, got {node.at!r}")
        if (other := places.setdefault(at, node.name)) != node.name:
            raise ValueError(f"nodes has {other!r} and {node.name!r} in one place, {node.at!r}")
        for text in (node.written, node.note):
            runs(text, SIZE)
        names.add(node.name)
    if not names:
        raise ValueError("nodes must hold at least one node, got none")
    for group in groups:
        plain_text(group.name, "name of a group")
        if not group.nodes or (unknown := set(group.nodes) - names):
            got = f"the unknown {sorted(unknown)}" if group.nodes else "none"
            raise ValueError(f"nodes of the group {group.name!r} must be names of nodes, got {got}")
        if group.name in names:
            raise ValueError(f"groups has a name that a node has too, {group.name!r}")


def _check_arrow(arrow: Arrow, known: set[str]) -> None:
    for end, name in (("source", arrow.source), ("target", arrow.target)):
        if name not in known:
            raise ValueError(f"{end} of an arrow must be the name of a node ({', '.join(sorted(known))}), got {name!r}")
    if arrow.source == arrow.target and not (arrow.leave and arrow.leave == arrow.enter):
        raise ValueError(f"arrow {arrow} must leave and enter its node on one side, to be seen")
    if arrow.label != "" and not arrow.label.strip():
        raise ValueError(f"label of {arrow} must be a text or left out, got {arrow.label!r}")
    for name in ("leave", "enter", "side"):
        if getattr(arrow, name) not in ("", *SIDES):
            raise ValueError(f"{name} of {arrow} must be one of {', '.join(SIDES)}, got {getattr(arrow, name)!r}")
    runs(arrow.label, SIZE)


def _box(node: Node, box: Box, marked: bool) -> str:
    """A node: its outline, tinted with its colour, and one or two lines of text in it."""
    look = KINDS[node.kind]
    radius = {"pill": box.height / 2, "box": 6, "plate": box.height / 2 if box.width == box.height else 3}
    outline = ""
    if look.shape != "bare":
        tint = 0.45 if marked else 0.04 if look.color == "currentColor" else 0.12
        dash = ' stroke-dasharray="5 3"' if look.dashed else ""
        outline = _rectangle(box, radius.get(look.shape, 0), look.color, tint, 2 if look.shape == "box" else 1.5, dash)
    if look.shape == "double":
        outline += _rectangle(box.grown(-3.5), 0, look.color, 0, 1)
    if not node.note:
        return outline + written(node.written, box.x, box.y, SIZE)
    return outline + written(node.written, box.x, box.y - 9, SIZE) + written(node.note, box.x, box.y + 9, SIZE)


def _rectangle(box: Box, radius: float, color: str, tint: float, stroke: float, more: str = "") -> str:
    return (
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
        f'rx="{radius:g}" fill="{color}" fill-opacity="{tint:g}" stroke="{color}" stroke-width="{stroke:g}"{more}/>'
    )


def _frame(group: Group, frame: Box, title: Box) -> str:
    outline = _rectangle(frame, 10, "currentColor", 0, 1.2, ' stroke-opacity="0.6" stroke-dasharray="6 4"')
    return outline + written(group.title, title.left, title.y, SIZE, "start")


def _line(way: list[Point], dashed: bool) -> str:
    """A line with rounded corners and a head at its end. Markers would need ids, which must differ on a page."""
    (x, y), (tip_x, tip_y) = way[-2:]
    right, down = (tip_x > x) - (tip_x < x), (tip_y > y) - (tip_y < y)
    base = tip_x - 8 * right, tip_y - 8 * down
    wings = [(base[0] - side * down, base[1] + side * right) for side in (4, -4)]
    path = f"M{_at(way[0])}"
    for before, corner, after in zip(way, way[1:-1], way[2:]):
        path += f"L{_at(_towards(corner, before))}Q{_at(corner)} {_at(_towards(corner, after))}"
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return (
        f'<path d="{path}L{_at(base)}" fill="none" stroke="currentColor" stroke-width="1.4"{dash}/>'
        f'<path d="M{_at(way[-1])}L{_at(wings[0])}L{_at(wings[1])}Z" fill="currentColor"/>'
    )


def _at(point: Point) -> str:
    return f"{point[0]:.1f} {point[1]:.1f}"


def _towards(corner: Point, other: Point, radius: float = 7) -> Point:
    """The point where the rounding of a corner begins."""
    length = abs(other[0] - corner[0]) + abs(other[1] - corner[1])
    share = min(radius, length / 2) / length
    return corner[0] + share * (other[0] - corner[0]), corner[1] + share * (other[1] - corner[1])
