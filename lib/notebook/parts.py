"""What a diagram consists of: boxes in rows and columns, arrows between them, frames around some; and rectangles."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]


class Node(NamedTuple):
    """A box.

    Args:
        name: by which arrows and groups know it.
        at: row and column, from 0; between two columns it may stand too, at (1, 0.5).
        kind: one of `diagram.KINDS`.
        text: what is written in it. Without it the name: as code in networks and operations, else as a formula.
        note: a second line.
    """

    name: str
    at: Point
    kind: str = "network"
    text: str = ""
    note: str = ""

    @property
    def written(self) -> str:
        """The first line."""
        return self.text or (f"`{self.name}`" if self.kind in ("network", "operation") else self.name)


class Arrow(NamedTuple):
    """An arrow between two boxes.

    Args:
        source: name of the box where it begins.
        target: name of the box that it points to.
        label: shape or symbol of what flows.
        leave: side of the source, "top", "bottom", "left" or "right"; by default the one that faces the target.
        enter: side of the target. Two equal sides make a way around what stands between.
        side: on which side of the arrow the label stands; by default wherever there is room.
        shift: how far beside the middle of its boxes it runs, down or to the right, so that two can run side by side.
        around: how far outside the boxes a way around runs.
        dashed: for what is no value: a gradient, a choice.
    """

    source: str
    target: str
    label: str = ""
    leave: str = ""
    enter: str = ""
    side: str = ""
    shift: float = 0
    around: float = 22
    dashed: bool = False

    def __str__(self) -> str:
        return f"{self.source} → {self.target}"


def chain(*steps: str, side: str = "") -> list[Arrow]:
    """Arrows from box to box: `chain("x", "B×784", "encoder", "", "z")` has a label on the first of two.

    Raises ValueError unless names and labels take turns, with a name at both ends.
    """
    if len(steps) < 3 or len(steps) % 2 == 0:
        raise ValueError(f"steps must be a name, a label, a name and so on, and end with a name, got {steps!r}")
    return [
        Arrow(source, target, label, side=side)
        for source, label, target in zip(steps[0:-2:2], steps[1::2], steps[2::2], strict=True)
    ]


class Group(NamedTuple):
    """Boxes in a dashed frame. Its `note`, such as "× 12", stands behind the name; the first node gives its place."""

    name: str
    nodes: Sequence[str]
    note: str = ""

    @property
    def title(self) -> str:
        """What is written in the frame."""
        return f"`{self.name}` {self.note}".rstrip()


class Box(NamedTuple):
    """A rectangle; y grows downwards."""

    left: float
    top: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """Its lower edge."""
        return self.top + self.height

    @property
    def x(self) -> float:
        """The middle, from the left."""
        return self.left + self.width / 2

    @property
    def y(self) -> float:
        """The middle, from the top."""
        return self.top + self.height / 2

    def grown(self, by: float) -> "Box":
        """Larger by so much on every side."""
        return Box(self.left - by, self.top - by, self.width + 2 * by, self.height + 2 * by)

    def meets(self, other: "Box") -> bool:
        """Whether the two share more than an edge."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > 0.01
            and min(self.bottom, other.bottom) - max(self.top, other.top) > 0.01
        )


def lines(way: list[Point]) -> list[Box]:
    """The straight parts of a line, as boxes without breadth but that of the line."""
    return [
        Box(min(x, end_x), min(y, end_y), abs(x - end_x), abs(y - end_y)).grown(1)
        for (x, y), (end_x, end_y) in pairwise(way)
    ]


def edges(frame: Box) -> list[Box]:
    """The four lines of a frame."""
    corners = [
        (frame.left, frame.top),
        (frame.right, frame.top),
        (frame.right, frame.bottom),
        (frame.left, frame.bottom),
    ]
    return lines([*corners, corners[0]])


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around all."""
    boxes = list(boxes)
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    return Box(left, top, max(box.right for box in boxes) - left, max(box.bottom for box in boxes) - top)
