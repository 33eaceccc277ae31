import pytest

from tests.standard.figures import rebound
from tests.standard.made import chapter, code


def found(*sources):
    """The names found in a notebook with these code cells."""
    return [fault.split("`")[1] for fault in rebound(chapter(*map(code, sources)))]


@pytest.mark.parametrize(
    "figure",
    [
        "explore(lambda t: draw(codes[t]), '{t}', t=(1, 2))",
        "explore(draw, lambda t: f'{codes[t]}', t=(1, 2))",
        "def picture(t):\n    return codes[t]\nexplore(picture, '{t}', t=(1, 2))",
        "def inner(t):\n    return codes[t]\ndef picture(t):\n    return inner(t)\nexplore(picture, '{t}', t=(1, 2))",
        "picture = lambda t: [codes[each] for each in t]\nexplore(picture, '{t}', t=(1, 2))",
        "class Picture:\n    def __call__(self, t):\n        return codes[t]\nexplore(Picture(), '{t}', t=(1, 2))",
    ],
)
@pytest.mark.parametrize("later", ["codes = 1", "for codes in range(3):\n    pass", "def codes(): pass", "codes += 1"])
def test_a_name_bound_anew_after_the_figure_is_found(figure, later):
    assert found("codes = [1, 2]", figure, "pass", later) == ["codes"]


def test_the_message_names_figure_and_cell():
    (fault,) = rebound(chapter("# Codes", code("explore(lambda t: codes, '')"), code("codes = 1")))
    assert fault == "cell 2 (\"explore(lambda t: codes, '')\"): its figure reads `codes`, which cell 3 binds anew"


@pytest.mark.parametrize(
    "figure, later",
    [
        ("explore(lambda t, codes=codes: codes[t], '{t}', t=(1, 2))", "codes = 1"),
        ("explore(lambda codes: codes, '{codes}', codes=(1, 2))", "codes = 1"),
        ("explore(draw, '{t}', t=codes)", "codes = 1"),
        ("explore(lambda t: codes[t], '{t}', t=(1, 2))", "def other():\n    codes = 1"),
        ("explore(lambda t: codes[t], '{t}', t=(1, 2))", "from lib import codes"),
        ("explore(lambda t: codes[t], '{t}', t=(1, 2))", "print([codes for codes in (1, 2)])"),
        ("show(lambda t: codes[t])", "codes = 1"),
    ],
)
def test_what_the_figure_keeps_or_never_reads_may_be_bound_anew(figure, later):
    assert found("codes = [1, 2]", figure, later) == []


def test_what_is_bound_before_the_figure_is_right():
    assert found("codes = 1", "codes = 2", "explore(lambda t: codes, '')") == []
    assert found("explore(lambda t: codes, '')\ncodes = 2") == ["codes"]
