"""Where the boxes, arrows, frames and labels of a diagram stand, and what would overlap there."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from lib.notebook.lettering import measured
from lib.notebook.parts import Arrow, Box, Group, Node, Point, edges, lines, union

SIZE = 14  # of all letters but indices and exponents
HEIGHT, TALL, SYMBOL = 34, 52, 28  # boxes of one line, of two, and of one letter
ROOMY, NARROW = 38, 24  # the gap between two rows, with and without labels in it
COLUMN_GAP = 22
PADDING, TITLE = 13, 21  # a frame's distance from what it holds, and the band for its title
LINE = 16  # height of a label
TURN = 17  # from a box to the last corner before it
EDGE = 3  # between the drawing and its border


class Layout(NamedTuple):
    """Boxes by the names of their nodes; each arrow's way and its label; each group's frame and title."""

    boxes: dict[str, Box]
    ways: list[tuple[Arrow, list[Point]]]
    labels: list[tuple[Arrow, Box]]
    frames: list[tuple[Group, Box, Box]]
    size: Box

    def clashes(self) -> list[str]:
        """What overlaps: texts, boxes and the lines that run through them, each pair named."""
        boxes = [(f"the box {name!r}", box) for name, box in self.boxes.items()]
        texts = [(f"the label {arrow.label!r} of {arrow}", box) for arrow, box in self.labels]
        texts += [(f"the title {group.title!r}", spot) for group, _, spot in self.frames]
        found = [(one, other) for one, other in combinations([*boxes, *texts], 2) if one[1].meets(other[1])]
        drawn = [(arrow, line) for arrow, way in self.ways for line in lines(way)]
        found += [
            ((f"the arrow {arrow}", line), (name, box))
            for arrow, line in drawn
            for name, box in [*boxes, *texts]
            if line.meets(box.grown(-1)) and box not in (self.boxes[arrow.source], self.boxes[arrow.target])
        ]
        framed = [(f"the frame {group.title!r}", edge) for group, frame, _ in self.frames for edge in edges(frame)]
        found += [(edge, item) for edge in framed for item in [*boxes, *texts] if edge[1].meets(item[1])]
        return [f"{one} meets {other}" for (one, _), (other, _) in found]


def laid_out(nodes: Sequence[Node], arrows: Sequence[Arrow], groups: Sequence[Group]) -> Layout:
    """Rows and columns as wide as they must be, arrows at right angles, and a label wherever one has room."""
    cells = {node.name: node.at for node in nodes}
    sizes = {node.name: _size(node) for node in nodes}
    boxes = _boxes(cells, sizes, arrows, groups)
    ways = [(arrow, list(dict.fromkeys(_way(arrow, boxes)))) for arrow in arrows]
    taken = [box.grown(2) for box in boxes.values()]
    taken += [line for _, way in ways for line in lines(way)]
    inside = [(arrow, way) for arrow, way in ways if any({*arrow[:2]} <= {*group.nodes} for group in groups)]
    labels = _labels(inside, taken)
    frames = [(group, *_frame(group, boxes, ways, labels)) for group in groups]
    taken += [part for _, frame, title in frames for part in (*edges(frame), title)]
    labels += _labels([each for each in ways if each not in inside], taken)
    drawn = [*boxes.values(), *(frame for _, frame, _ in frames), *(spot for _, spot in labels)]
    drawn += [line for _, way in ways for line in lines(way)]
    return Layout(boxes, ways, labels, frames, union(drawn).grown(EDGE))


def _size(node: Node) -> Point:
    """Width and height of a box."""
    width = max(measured(node.written, SIZE), measured(node.note, SIZE))
    if node.kind == "operation" and len(node.written) == 1:
        return SYMBOL, SYMBOL
    if node.kind == "text":
        return width + 6, HEIGHT
    return max(46, width + (24 if node.kind in ("network", "operation", "loss") else 32)), TALL if node.note else HEIGHT


def _boxes(
    cells: Mapping[str, Point], sizes: Mapping[str, Point], arrows: Sequence[Arrow], groups: Sequence[Group]
) -> dict[str, Box]:
    """Every node in the middle of its cell. Rows and columns without nodes take no room."""
    rows, columns = ([at[axis] for at in cells.values()] for axis in (0, 1))
    high = {r: max(sizes[n][1] for n, at in cells.items() if at[0] == r) for r in sorted({*rows})}
    whole = [c for c in sorted({*columns}) if c == int(c)] or sorted({*columns})
    wide = {c: max(sizes[n][0] for n, at in cells.items() if at[1] == c) for c in whole}
    framed = [[cells[name] for name in group.nodes] for group in groups]
    y = _middles(high, {above: _row_gap(above, below, cells, arrows, framed) for above, below in pairwise(high)})
    x = _middles(wide, {c: _column_gap(c, d, cells, sizes, wide, arrows, framed) for c, d in pairwise(wide)})
    found = {}
    for name, (row, column) in cells.items():
        width, height = sizes[name]
        middle = float(np.interp(column, list(x), list(x.values())))
        found[name] = Box(middle - width / 2, y[row] - height / 2, width, height)
    return found


def _middles(sizes: Mapping[float, float], gaps: Mapping[float, float]) -> dict[float, float]:
    """The middle of each row or column, from sizes and the gaps behind them."""
    edge, found = 0.0, {}
    for index, size in sizes.items():
        found[index] = edge + size / 2
        edge += size + gaps.get(index, 0)
    return found


def _row_gap(
    above: float, below: float, cells: Mapping[str, Point], arrows: Sequence[Arrow], framed: list[list[Point]]
) -> float:
    """Labels need room between rows, and so do the edge and title of a frame."""
    spans = [sorted((cells[arrow.source][0], cells[arrow.target][0])) for arrow in arrows if arrow.label]
    labelled = any(first <= above and last >= below for first, last in spans)
    begins = any(min(at[0] for at in group) == below for group in framed)
    ends_here = any(max(at[0] for at in group) == above for group in framed)
    return (ROOMY if labelled else NARROW) + (PADDING + TITLE) * begins + PADDING * ends_here


def _column_gap(left, right, cells, sizes, wide, arrows, framed) -> float:
    """A label on an arrow from one column to the next must fit between the boxes."""
    gap = COLUMN_GAP
    for arrow in arrows:
        one, other = sorted((arrow.source, arrow.target), key=lambda name: cells[name][1])
        straight = cells[one][0] == cells[other][0] and not arrow.leave
        if arrow.label and straight and (cells[one][1], cells[other][1]) == (left, right):
            slack = (wide[left] - sizes[one][0] + wide[right] - sizes[other][0]) / 2
            gap = max(gap, measured(arrow.label, SIZE) + 26 - slack)
    begins = any(min(at[1] for at in group) == right for group in framed)
    ends_here = any(max(at[1] for at in group) == left for group in framed)
    return gap + PADDING * (begins + ends_here)


def _way(arrow: Arrow, boxes: Mapping[str, Box]) -> list[Point]:
    """The corners of an arrow's line, all of it horizontal or vertical."""
    a, b = boxes[arrow.source], boxes[arrow.target]
    if abs(a.y - b.y) < 1:
        sides = ("right", "left") if a.x < b.x else ("left", "right")
    else:
        sides = ("bottom", "top") if a.y < b.y else ("top", "bottom")
    leave, enter = arrow.leave or sides[0], arrow.enter or sides[1]
    (x, y), (end_x, end_y) = _on(a, leave, arrow.shift), _on(b, enter, arrow.shift)
    upright, level = leave in ("top", "bottom"), enter in ("left", "right")
    if leave == enter and level:
        passed = [box for box in boxes.values() if box.bottom > min(y, end_y) and box.top < max(y, end_y)]
        left, right = min(box.left for box in passed), max(box.right for box in passed)
        lane = left - arrow.around if leave == "left" else right + arrow.around
        return [(x, y), (lane, y), (lane, end_y), (end_x, end_y)]
    if leave == enter:
        passed = [box for box in boxes.values() if box.right > min(x, end_x) and box.left < max(x, end_x)]
        top, bottom = min(box.top for box in passed), max(box.bottom for box in passed)
        lane = top - arrow.around if leave == "top" else bottom + arrow.around
        return [(x, y), (x, lane), (end_x, lane), (end_x, end_y)]
    if upright == level:
        return [(x, y), (x, end_y) if upright else (end_x, y), (end_x, end_y)]
    if upright:
        x, end_x = _aligned(x, end_x, (a.left, a.right), (b.left, b.right))
        turn = end_y + (-TURN if enter == "top" else TURN)
        return [(x, y), (x, turn), (end_x, turn), (end_x, end_y)] if abs(x - end_x) > 1 else [(x, y), (x, end_y)]
    y, end_y = _aligned(y, end_y, (a.top, a.bottom), (b.top, b.bottom))
    turn = end_x + (-TURN if enter == "left" else TURN)
    return [(x, y), (turn, y), (turn, end_y), (end_x, end_y)] if abs(y - end_y) > 1 else [(x, y), (end_x, y)]


def _on(box: Box, side: str, shift: float) -> Point:
    """The point of a side where an arrow begins or ends."""
    if side in ("top", "bottom"):
        return box.x + shift, getattr(box, side)
    return getattr(box, side), box.y + shift


def _aligned(start: float, end: float, source: Point, target: Point) -> Point:
    """Both ends moved so that the line is straight, where one box reaches past the middle of the other."""
    if source[0] + 8 < end < source[1] - 8:
        return end, end
    return (start, start) if target[0] + 8 < start < target[1] - 8 else (start, end)


def _labels(ways: Iterable[tuple[Arrow, list[Point]]], taken: list[Box]) -> list[tuple[Arrow, Box]]:
    """A place for each label, the first where nothing is `taken`; then it is taken too."""
    found = []
    for arrow, way in ways:
        if arrow.label:
            spots = list(_spots(arrow, way))
            room = [spot for spot in spots if not any(spot.meets(other) for other in taken)]
            found.append((arrow, (room or spots)[0]))
            taken.append(found[-1][1].grown(3))
    return found


def _spots(arrow: Arrow, way: list[Point]) -> Iterable[Box]:
    """The places where an arrow's label may stand, the best first: beside the middle of its longest part."""
    width = measured(arrow.label, SIZE)
    parts = sorted(pairwise(way), key=lambda part: -abs(part[0][0] - part[1][0]) - abs(part[0][1] - part[1][1]))
    for (x, y), (end_x, end_y) in parts:
        level = abs(y - end_y) < 0.01
        sides = [side for side in (("top", "bottom") if level else ("right", "left")) if arrow.side in ("", side)]
        for share in (0.5, 0.42, 0.58, 0.35, 0.65, 0.25, 0.75, 0.15, 0.85):
            at_x, at_y = x + share * (end_x - x), y + share * (end_y - y)
            for side in sides:
                left = {"right": at_x + 7, "left": at_x - 7 - width}.get(side, at_x - width / 2)
                top = {"top": at_y - LINE - 3, "bottom": at_y + 3}.get(side, at_y - LINE / 2)
                yield Box(left, top, width, LINE)


def _frame(
    group: Group, boxes: Mapping[str, Box], ways: list[tuple[Arrow, list[Point]]], labels: list[tuple[Arrow, Box]]
) -> tuple[Box, Box]:
    """The frame around the nodes of a group and the arrows between them, and the place of its title."""
    nodes = set(group.nodes)
    held = [boxes[name] for name in group.nodes]
    held += [line for arrow, way in ways if {*arrow[:2]} <= nodes for line in lines(way)]
    held += [spot for arrow, spot in labels if {*arrow[:2]} <= nodes]
    inner, width = union(held).grown(PADDING), measured(group.title, SIZE)
    top, crossing = inner.top - TITLE, [line for _, way in ways for line in lines(way)]
    through = [line.right for line in crossing if line.top < inner.top and line.bottom > top]
    starts = (inner.left + 9, inner.right - 9 - width, max([inner.left, *through]) + 9)
    spots = [Box(left, top + 8, width, LINE) for left in starts]
    free = [spot for spot in spots if not any(spot.grown(5).meets(line) for line in crossing)]
    title = (free or spots)[0]
    return Box(inner.left, top, max(inner.right, title.right + 9) - inner.left, inner.bottom - top), title
