import html
import json

import pytest

from tests.standard import cells
from tests.standard.made import chapter, code, printed, value

LONG = "\n".join(f"x{n} = {n}\n" for n in range(16))
TEXT = "finding(\n" + "    'the error is {error:.2f} ',\n" * 20 + "    error=(error, 0, 1),\n)"


def test_a_cell_over_fifteen_lines_is_found():
    (fault,) = cells.long_cells(chapter("# Codes", code(LONG, "hide-input")))
    assert fault == "cell 2 ('x0 = 0') has 16 lines"


def test_blank_lines_findings_cards_imports_and_solutions_are_not_counted():
    fifteen = LONG.replace("x0 = 0\n", "")
    for cell in (code(f"{fifteen}\n{TEXT}"), code(LONG, "imports"), code(LONG, "setup"), code(LONG, "hide-cell")):
        assert cells.long_cells(chapter(cell)) == []
    assert len(cells.long_cells(chapter(code(TEXT.replace("finding", "show"))))) == 1


def test_a_cell_may_have_magics():
    assert cells.long_cells(chapter(code("%timeit -n 1 pass"))) == []


@pytest.mark.parametrize("count, faults", [(18, 0), (19, 1), (21, 1), (22, 2)])
def test_lines_of_code_count_by_fifties(count, faults):
    made = chapter(*[code(LONG, "hide-input") for _ in range(count)], code(LONG, "hide-cell"), code(TEXT))
    assert len(cells.code_lines(made)) == faults
    assert cells.open_lines(made) == []


@pytest.mark.parametrize("count, faults", [(7, 0), (8, 1), (11, 2)])
def test_open_lines_count_by_fifties(count, faults):
    found = cells.open_lines(chapter(*[code(LONG) for _ in range(count)], code(LONG, "remove-input")))
    assert found == [f"{16 * count} open lines of code, 120 are enough"] * faults


@pytest.mark.parametrize(
    "shown",
    [
        value(text_plain="History(records=[" + "{'loss': 1}, " * 20 + "])"),
        value(text_plain="[" + "0.25, " * 50 + "]"),
        printed("weights: tensor([" + "0.25, " * 50 + "])"),
    ],
)
def test_a_long_raw_value_is_found(shown):
    (fault,) = cells.raw_outputs(chapter(code("model.fit()", shows=[shown])))
    assert fault.startswith("cell 1 ('model.fit()') shows ")


@pytest.mark.parametrize(
    "shown",
    [
        value(text_plain="tensor([0.25])"),
        value(text_plain="[" + "0.25, " * 50 + "]", text_html="<table>"),
        printed("The loss falls.\n" * 20),
    ],
)
def test_short_values_faces_and_print_are_right(shown):
    assert cells.raw_outputs(chapter(code("x", shows=[shown]))) == []


@pytest.mark.parametrize("alts, faults", [(["A wave."] * 3, 1), (["A wave.", "A wave.", "A hill."], 0)])
def test_frames_that_all_say_the_same_are_found(alts, faults):
    data = html.escape(json.dumps({"order": [0, 1, 2], "alts": alts}))
    figure = value(text_html=f'<figure class="explore" data-frames="{data}">')
    assert len(cells.equal_alts(chapter(code("explore(draw)", shows=[figure])))) == faults
