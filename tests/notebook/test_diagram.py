"""Diagrams: what is drawn, what is refused, and that nothing overlaps."""

import re
from itertools import pairwise

import pytest
from bs4 import BeautifulSoup

from lib.notebook import diagram, pictures
from lib.notebook.diagram import KINDS, WIDEST, Diagram, diagram_html, show_diagram
from lib.notebook.layout import laid_out
from lib.notebook.lettering import measured, runs, written
from lib.notebook.parts import Arrow, Box, Group, Node, chain

ALT = "Three boxes in a row, one below the other."
NODES = [Node("x", (0, 0), "data"), Node("encoder", (1, 0)), Node("z", (2, 0), "latent")]
ARROWS = [Arrow("x", "encoder", "B×1×28×28"), Arrow("encoder", "z", "B×16")]
GROUP = Group("model", ["encoder", "z"], "× 3")


def drawn(*arguments, **named):
    return BeautifulSoup(Diagram(*arguments, **named).svg(), "html.parser").svg


def texts(svg):
    return [text.get_text() for text in svg.find_all("text")]


def test_a_diagram_holds_its_texts_as_text_and_says_what_it_shows():
    svg = drawn(ALT, NODES, ARROWS)
    assert (svg["role"], svg["aria-label"], svg.desc.text) == ("img", ALT, ALT)
    assert texts(svg) == ["x", "encoder", "z", "B×1×28×28", "B×16"]
    assert not svg.find_all(["style", "marker", "foreignobject"]) and not svg.find_all(id=True)
    assert {text["fill"] for text in svg.find_all("text")} == {"currentColor"}


def test_the_same_diagram_is_the_same_bytes():
    assert Diagram(ALT, NODES, ARROWS).svg() == Diagram(ALT, NODES, ARROWS).svg()


def test_every_kind_can_be_told_without_its_colour():
    outlines = {}
    for kind in KINDS:
        svg = drawn(ALT, [Node("a", (0, 0), kind, "name")], [])
        for rectangle in svg.find_all("rect"):
            for colour in ("fill", "stroke", "fill-opacity"):
                del rectangle[colour]
        outlines[kind] = str(svg.find_all("rect"))
    assert outlines.pop("latent") == outlines["data"], "both are values; their names and places tell them apart"
    assert len(set(outlines.values())) == len(outlines)


def test_a_page_shows_the_figure_with_caption_and_alt(monkeypatch):
    shown = []
    monkeypatch.setattr(pictures, "get_ipython", lambda: "a notebook")
    monkeypatch.setattr(pictures, "display", lambda faces, raw, metadata: shown.append(faces))
    show_diagram(Diagram(ALT, NODES, ARROWS), "It <narrows>.")
    (faces,) = shown
    figure = BeautifulSoup(faces["text/html"], "html.parser").find("figure", class_="book-figure")
    assert figure.find("svg", recursive=False) and figure.figcaption.text == "It <narrows>."
    assert faces["text/plain"] == ALT
    assert "figcaption" not in diagram_html(Diagram(ALT, NODES, ARROWS))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x_t", [("x", "variable", 0), ("t", "variable", -1)]),
        ("x_{t−1}", [("x", "variable", 0), ("t", "variable", -1), ("−1", "plain", -1)]),
        ("log σ^2", [("log ", "plain", 0), ("σ", "variable", 0), ("2", "plain", 1)]),
        ("`pred_boxes` 4", [("pred_boxes", "code", 0), (" 4", "plain", 0)]),
        ("B×16, a code", [("B×16, a code", "plain", 0)]),
        ("x̂", [("x̂", "variable", 0)]),
    ],
)
def test_simple_formulas_are_read(text, wanted):
    assert [(run.text, run.style, (run.raised > 0) - (run.raised < 0)) for run in runs(text, 14)] == wanted


def test_an_index_stands_lower_and_what_follows_on_the_line_again():
    steps = re.findall(r'dy="([-0-9.]+)"', written("q(x_t | x_{t−1})", 0, 0, 14))
    assert sum(map(float, steps[:2])) == 0 and float(steps[0]) > 0
    assert measured("x_t", 14) < measured("xt", 14) and measured("", 14) == 0


@pytest.mark.parametrize("text", ["x_", "x^", "`open", "x_{}"])
def test_a_sign_with_nothing_behind_it_is_refused(text):
    with pytest.raises(ValueError, match="text must have something behind"):
        Diagram(ALT, [Node("a", (0, 0), "data", text)], [])


def one(node=None, arrow=None, group=None, alt=ALT, mark=""):
    """A diagram with one thing in it that is wrong."""
    nodes, arrows = [*NODES, *([node] if node else [])], [*ARROWS, *([arrow] if arrow else [])]
    return Diagram(alt, nodes, arrows, [group] if group else [], mark)


WRONG = {
    "alt must be a text": {"alt": " "},
    "alt must be a sentence": {"alt": "Three boxes"},
    "alt must be plain text": {"alt": r"A $\beta$."},
    "name of a node must be a text": {"node": Node("", (3, 0))},
    "kind of 'y' must be one of data, latent": {"node": Node("y", (3, 0), "picture")},
    "nodes holds two of the name 'x'": {"node": Node("x", (3, 0))},
    "at of 'y' must be a row and a column": {"node": Node("y", (-1, 0))},
    "at of 'w' must be a row and a column": {"node": Node("w", 3)},
    "nodes has 'encoder' and 'y' in one place": {"node": Node("y", (1, 0))},
    r"source of an arrow must be .*got 'decoder'": {"arrow": Arrow("decoder", "z")},
    r"target of an arrow must be .*got 'decoder'": {"arrow": Arrow("z", "decoder")},
    "label of x → z must be a text": {"arrow": Arrow("x", "z", "  ")},
    "leave of x → z must be one of top": {"arrow": Arrow("x", "z", leave="up")},
    "side of x → z must be one of top": {"arrow": Arrow("x", "z", side="beside")},
    "arrow x → x must leave and enter": {"arrow": Arrow("x", "x")},
    "name of a group must be a text": {"group": Group("", ["x"])},
    "nodes of the group 'model' must be .*decoder": {"group": Group("model", ["decoder"])},
    "nodes of the group 'empty' must be .*none": {"group": Group("empty", [])},
    "groups has a name that a node has": {"group": Group("x", ["x"])},
    "mark must be the name of a node, got 'y'": {"mark": "y"},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_named(said):
    with pytest.raises(ValueError, match=f"^{said}"):
        one(**WRONG[said])


def test_a_diagram_of_nothing_is_refused():
    with pytest.raises(ValueError, match="nodes must hold at least one"):
        Diagram(ALT, [], [])


@pytest.mark.parametrize("name", ["nobody", ""])
def test_groups_that_are_not_there_are_named(name):
    whole = one(group=GROUP)
    for view in (whole.collapsed, whole.zoomed):
        with pytest.raises(ValueError, match=r"group must be one of \['model'\]"):
            view(name, ALT)


def test_boxes_that_overlap_are_both_named():
    crowded = Diagram(ALT, [Node("one_long_name", (0, 0)), Node("other", (0, 0.4)), Node("far", (0, 1))], [])
    with pytest.raises(ValueError, match="the box 'one_long_name' meets the box 'other'"):
        crowded.svg()


def test_a_label_without_room_is_named_with_what_is_in_its_way():
    nodes = [Node(name, (row, column)) for row in (0, 1) for column, name in enumerate(("left", "right"))]
    nodes = [node._replace(name=f"{node.name}{node.at[0]}") for node in nodes]
    long = Arrow("left0", "left1", "a label that is much wider than its column", side="right")
    with pytest.raises(ValueError, match="the arrow right0 → right1 meets the label 'a label that"):
        Diagram(ALT, nodes, [long, Arrow("right0", "right1")]).svg()


def test_two_labels_in_one_place_are_both_named():
    there, back = Arrow("x", "encoder", "forth", side="right"), Arrow("encoder", "x", "back", side="right")
    assert Diagram(ALT, NODES, [there, back._replace(side="left")]).svg()
    layout = Diagram(ALT, NODES, [there._replace(side=""), back._replace(side="")]).layout()
    (first, spot), (second, _) = layout.labels
    clash = layout._replace(labels=[(first, spot), (second, spot)]).clashes()
    assert "the label 'forth' of x → encoder meets the label 'back' of encoder → x" in clash


def test_an_arrow_through_a_box_is_refused():
    with pytest.raises(ValueError, match="the arrow x → z meets the box 'encoder'"):
        Diagram(ALT, NODES, [Arrow("x", "z")]).svg()
    around = Diagram(ALT, NODES, [Arrow("x", "z", leave="left", enter="left")]).layout()
    assert min(x for x, _ in around.ways[0][1]) < around.boxes["encoder"].left


def test_a_frame_through_a_box_is_refused():
    beside = [*NODES, Node("w", (1, 1)), Node("v", (2, 0.9))]
    with pytest.raises(ValueError, match="the frame '`model` × 3' meets the box 'v'"):
        Diagram(ALT, beside, ARROWS, [GROUP]).svg()


def test_a_drawing_wider_than_a_phone_is_refused():
    row = [Node(f"quantize_conv_{n}", (0, n)) for n in range(3)]
    assert Diagram(ALT, row[:2], []).layout().size.width <= WIDEST
    with pytest.raises(ValueError, match=f"must be at most {WIDEST} wide"):
        Diagram(ALT, row, []).svg()


def test_rows_keep_their_order_and_empty_ones_take_no_room():
    near, far = ([Node("a", (0, 0)), Node("b", (row, 0))] for row in (1, 7))
    assert Diagram(ALT, near, []).svg() == Diagram(ALT, far, []).svg()


def test_two_arrows_can_run_side_by_side():
    pair = [Arrow("x", "encoder", shift=8), Arrow("encoder", "x", shift=-8, dashed=True)]
    layout = Diagram(ALT, NODES, pair).layout()
    assert abs(layout.ways[0][1][0][0] - layout.ways[1][1][0][0]) == 16
    assert drawn(ALT, NODES, pair).find_all("path", attrs={"stroke-dasharray": True})


def test_an_arrow_from_a_small_box_meets_a_wide_one_straight():
    wide = [Node("a", (0, 0)), Node("b", (0, 1)), Node("wide", (1, 0.5), text="a box of two columns")]
    layout = Diagram(ALT, wide, [Arrow("a", "wide"), Arrow("b", "wide")]).layout()
    assert [len(way) for _, way in layout.ways] == [2, 2]


def test_a_column_makes_room_for_a_label_between_two_boxes():
    row = [Node("a", (0, 0)), Node("b", (0, 1))]
    gaps = []
    for label in ("", "B×16×7×7"):
        boxes = Diagram(ALT, row, [Arrow("a", "b", label)]).layout().boxes
        gaps.append(boxes["b"].left - boxes["a"].right)
    assert gaps[1] > measured("B×16×7×7", 14) > gaps[0]


def test_a_group_is_drawn_open_closed_or_alone():
    whole = Diagram(ALT, [*NODES, Node("end", (3, 0))], [*ARROWS, Arrow("z", "end")], [GROUP])
    assert texts(drawn(ALT, whole.nodes, whole.arrows, whole.groups))[0] == "model × 3"
    closed = whole.collapsed("model", "Closed.")
    assert [node.name for node in closed.nodes] == ["x", "end", "model"] and not closed.groups
    assert [arrow[:3] for arrow in closed.arrows] == [("x", "model", "B×1×28×28"), ("model", "end", "")]
    alone = Diagram(ALT, [Node("far", (9, 0)), *whole.nodes], whole.arrows, [GROUP]).zoomed("model", "Alone.")
    assert {node.name for node in alone.nodes} == {"x", "encoder", "z", "end"}
    assert {closed.alt, alone.alt} == {"Closed.", "Alone."}


def test_a_frame_holds_its_nodes_arrows_and_labels_and_its_title_is_free():
    wide = Arrow("encoder", "z", "wider than the boxes", leave="left", enter="left", side="left")
    layout = laid_out(NODES, [ARROWS[0], wide], [GROUP])
    (_, frame, title), (_, label) = layout.frames[0], layout.labels[0]
    assert label.width == measured(wide.label, 14)
    for box in (layout.boxes["encoder"], layout.boxes["z"], label, title):
        assert frame.left < box.left and box.right < frame.right and frame.top < box.top and box.bottom < frame.bottom
    assert not layout.clashes()


def test_one_box_can_be_marked():
    plain, marked = Diagram(ALT, NODES, ARROWS), Diagram(ALT, NODES, ARROWS).marked("encoder", "The encoder is filled.")
    assert marked.svg().count('fill-opacity="0.45"') == 1 and 'fill-opacity="0.45"' not in plain.svg()


def test_touching_is_not_overlapping():
    assert not Box(0, 0, 10, 10).meets(Box(10, 0, 10, 10))
    assert Box(0, 0, 10, 10).meets(Box(9, 9, 10, 10))


def test_every_side_and_every_way_between_two_boxes_can_be_drawn():
    for at in ((0, 1), (1, 0), (1, 1)):
        for leave in ("", *diagram.SIDES):
            for enter in ("", *diagram.SIDES):
                arrow = Arrow("a", "b", leave=leave, enter=enter)
                way = laid_out([Node("a", (0, 0)), Node("b", at)], [arrow], []).ways[0][1]
                assert all(x == to_x or y == to_y for (x, y), (to_x, to_y) in pairwise(way))
                assert diagram._line(way, dashed=False)


def test_a_chain_of_arrows_is_read_name_by_name():
    assert chain("x", "B×1×28×28", "encoder", "B×16", "z") == ARROWS
    for steps in ((), ("x",), ("x", "B×16"), ("x", "", "z", "")):
        with pytest.raises(ValueError, match="steps must be a name, a label"):
            chain(*steps)


def test_a_frame_keeps_its_distance_from_what_stands_around_it():
    nodes = [*NODES, Node("end", (3, 0)), Node("beside", (1, 1)), Node("edge", (3, 1))]
    layout = Diagram(ALT, nodes, [], [Group("g", ["encoder"])]).layout()
    boxes, (_, frame, _) = layout.boxes, layout.frames[0]
    assert boxes["beside"].left - frame.right >= 18
    assert boxes["z"].top - frame.bottom >= 18 and frame.top - boxes["x"].bottom >= 18


def test_arrows_that_become_one_are_drawn_once():
    pair = [Node("x", (0, 0), "data"), Node("a", (1, 0)), Node("b", (1, 1))]
    closed = Diagram(ALT, pair, [Arrow("x", "a"), Arrow("x", "b")], [Group("both", ["a", "b"])]).collapsed("both", "C.")
    assert closed.arrows == (Arrow("x", "both"),)
