import ast

import pytest

from lib.publishing.meaning import bare, meaning

WRITTEN = '''
"""A module."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LIMIT: int = 3  # at most


def area(side: "float", *more: int, unit="m") -> "Tensor":
    """In square metres."""
    square: float = side * side
    return f"{square:.2f} {unit}"


class Box:
    """A box."""

    side: float = 1.0

    def __init__(self):
        """Empty."""
        self.held: list[int] = []
'''

AGAIN = """
from typing import TYPE_CHECKING
LIMIT = 3
def area(side, *more,
         unit='m'):
    # a comment
    square = (side
              * side)
    return f'{square:.2f} {unit}'
class Box:
    side: float = 1.0
    def __init__(self): self.held = []
"""


def of(text):
    return [meaning(statement) for statement in bare(text)]


def test_comments_docstrings_annotations_and_layout_mean_nothing():
    assert of(WRITTEN) == of(AGAIN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT: int = 3", "LIMIT: int = 4"),
        ("side * side", "side + side"),
        ('unit="m"', 'unit="cm"'),
        (":.2f", ":.3f"),
        ("self.held", "self.kept"),
        ("side: float = 1.0", "side: int = 1.0"),  # dataclasses read it
        ("*more", "more"),
    ],
)
def test_all_else_does(before, after):
    assert before in WRITTEN
    assert of(WRITTEN) != of(WRITTEN.replace(before, after))


def test_a_text_that_is_no_docstring_stays():
    assert of("x = 1\n'text'") != of("x = 1")
    assert of("def f():\n    return 1\n    'text'") != of("def f():\n    return 1")


def test_a_name_that_is_only_annotated_stays_local():
    assert of("def f():\n    x: int\n    return x") != of("def f():\n    return x")
    assert of("def f():\n    x: int\n    return x") == of("def f():\n    x: str\n    return x")


def test_what_does_not_stand_under_type_checking_stays():
    text = "if TYPE_CHECKING:\n    import a\nelse:\n    import b"
    assert of(text) == of("import b")
    assert of(text.replace("if TYPE", "if not TYPE")) != of("import b")


def test_fields_that_are_empty_are_left_out():
    assert meaning(ast.parse("f()", mode="eval").body) == "Call(func=Name(id='f', ctx=Load()))"
    assert meaning(ast.parse("None", mode="eval").body) != meaning(ast.parse("...", mode="eval").body)
