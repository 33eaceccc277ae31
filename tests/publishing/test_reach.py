import ast
import textwrap

import pytest

from lib.publishing.reach import Reach

FILES = {
    "lib/__init__.py": "",
    "lib/shapes/__init__.py": "from lib.shapes.box import Box\nfrom lib.shapes.ball import area, volume\n",
    "lib/shapes/box.py": """
        from lib.shapes.base import Shape, checked
        from lib.shapes import units

        SIDES = 6

        class Box(Shape):
            def show(self):
                return units.name(SIDES)

        def unused():
            return 0
    """,
    "lib/shapes/base.py": """
        class Shape:
            def size(self):
                return 1

        def checked(function):
            return function
    """,
    "lib/shapes/ball.py": """
        from math import pi
        from lib.shapes.base import checked

        def area(radius):
            return pi * radius

        @checked
        def volume(radius):
            from lib.shapes.units import factor
            return factor(radius)
    """,
    "lib/shapes/units.py": """
        def name(number):
            return str(number)

        def factor(number):
            return 2 * number
    """,
    "lib/shapes/patch.py": """
        from lib.shapes.base import Shape

        TABLE = {}
        Shape.colour = "blue"

        def entered(function):
            TABLE[function.__name__] = function
            return function

        @entered
        def cube():
            return 3

        def look(name):
            return TABLE[name]
    """,
}


@pytest.fixture
def lib(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def reach(lib, cells):
    return Reach(ast.parse(textwrap.dedent(cells)).body, lib)


def changed(lib, cells, file, before, after):
    """The files of which what the cells reach changes, when a line changes in `file`."""
    then = reach(lib, cells).digests()
    text = (lib / file).read_text()
    assert before in text
    (lib / file).write_text(text.replace(before, after))
    now = reach(lib, cells).digests()
    return {name for name in {*then, *now} if then.get(name) != now.get(name)}


# Box reaches Shape, beside which `checked` stands: it may have kept `volume`, which it decorates, in a table there.
BOX = "from lib.shapes import Box\nBox().show()"
AREA = "from lib.shapes import area\narea(2)"
VOLUME = "import lib.shapes as s\ns.volume(2)"


@pytest.mark.parametrize(
    ("cells", "file", "before", "after", "counts"),
    [
        (BOX, "lib/shapes/box.py", "units.name(SIDES)", "units.name(1)", True),
        (BOX, "lib/shapes/box.py", "return 0", "return 1", False),
        (BOX, "lib/shapes/box.py", "SIDES = 6", "SIDES = 7", True),
        (BOX, "lib/shapes/base.py", "return 1", "return 2", True),  # a method of its base
        (BOX, "lib/shapes/base.py", "return function", "return None", True),  # it decorates volume
        (BOX, "lib/shapes/units.py", "str(number)", "repr(number)", True),  # through a module's attribute
        (BOX, "lib/shapes/units.py", "2 * number", "3 * number", True),  # through volume
        (BOX, "lib/shapes/ball.py", "pi * radius", "radius", False),
        (AREA, "lib/shapes/ball.py", "pi * radius", "radius", True),
        (AREA, "lib/shapes/ball.py", "from math import pi", "from numpy import pi", True),
        (AREA, "lib/shapes/ball.py", "factor(radius)", "radius", False),
        (AREA, "lib/shapes/units.py", "2 * number", "3 * number", False),
        (AREA, "lib/shapes/box.py", "SIDES = 6", "SIDES = 7", False),
        (VOLUME, "lib/shapes/units.py", "2 * number", "3 * number", True),  # imported inside the function
        (VOLUME, "lib/shapes/base.py", "return function", "return None", True),  # a decorator
        (AREA, "lib/shapes/ball.py", "def area", "# about areas\ndef area", False),
        (AREA, "lib/shapes/box.py", "SIDES = 6", "SIDES = 6\nprint(SIDES)", True),  # done by whoever imports it
    ],
)
def test_a_changed_line_counts_where_it_is_reached(lib, cells, file, before, after, counts):
    assert changed(lib, cells, file, before, after) == ({file} if counts else set())


@pytest.mark.parametrize(
    "cells",
    [
        "import lib.shapes.units as u\nuse(u)",
        "import lib.shapes.units as u\ngetattr(u, name)(1)",
        "from lib.shapes import units\n[units]",
        "from lib.shapes.units import *\nfactor(1)",
        "import lib.shapes.units\nlib.shapes.units.nowhere",
        "import lib\neval('lib.shapes.units.factor(1)')",
        "import importlib, lib\nimportlib.import_module(name)",
        "def f():\n    from lib.shapes.units import factor\n    return factor(1)",
        "import lib.shapes.units\nlib.shapes.units.factor",
    ],
)
def test_where_names_do_not_say_what_is_meant_all_of_it_counts(lib, cells):
    file = "lib/shapes/units.py"
    assert changed(lib, cells, file, "2 * number", "3 * number") == {file}


def test_a_package_that_finds_names_by_itself_counts_with_all_its_modules(lib):
    (lib / "lib/shapes/__init__.py").write_text("def __getattr__(name):\n    return find(name)\n")
    file = "lib/shapes/units.py"
    assert changed(lib, "from lib.shapes import factor\nfactor(1)", file, "2 * number", "3 * number") == {file}


def test_a_name_found_late_counts_where_types_say_it_comes_from(lib):
    (lib / "lib/shapes/__init__.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib.shapes.box import Box\n"
        "def __getattr__(name):\n    return globals()[find(name)]\n"
    )
    assert changed(lib, BOX, "lib/shapes/base.py", "return 1", "return 2") == {"lib/shapes/base.py"}
    assert changed(lib, BOX, "lib/shapes/ball.py", "pi * radius", "radius") == set()
    assert changed(lib, BOX, "lib/shapes/__init__.py", "find(name)", "name") == {"lib/shapes/__init__.py"}
    assert reach(lib, "from lib.shapes import Box").imported >= {"lib.shapes.box", "lib.shapes.base"}
    assert reach(lib, "import lib.shapes").imported == {"lib", "lib.shapes"}


def test_a_statement_that_changes_a_class_counts_where_the_class_does(lib):
    file, line = "lib/shapes/patch.py", ('"blue"', '"red"')
    used = "import lib.shapes.patch\nfrom lib.shapes import Box, area\n"
    assert changed(lib, used + "area(1)", file, *line) == set()
    assert changed(lib, used + "Box()", file, *reversed(line)) == {file}


def test_what_is_entered_in_a_table_counts_where_the_table_does(lib):
    file, line = "lib/shapes/patch.py", ("return 3", "return 4")
    assert changed(lib, "from lib.shapes.patch import look\nlook('cube')", file, *line) == {file}
    assert changed(lib, "import lib.shapes.patch\nfrom lib.shapes import area\narea(1)", file, *reversed(line)) == set()


def test_what_is_imported_is_known(lib):
    assert reach(lib, AREA).imported == {
        "lib",
        "lib.shapes",
        *(f"lib.shapes.{n}" for n in ("box", "base", "ball", "units")),
    }
    assert reach(lib, "from lib import shapes").imported >= {"lib.shapes.box"}
    assert reach(lib, "import math, collections.abc\nmath.pi").imported == set()


def test_relative_imports_are_followed(lib):
    (lib / "lib/shapes/__init__.py").write_text(
        "from . import units\nfrom .ball import area\nfrom ..shapes.box import Box\n"
    )
    assert changed(lib, AREA, "lib/shapes/ball.py", "pi * radius", "radius") == {"lib/shapes/ball.py"}
    assert changed(lib, BOX, "lib/shapes/base.py", "return 1", "return 2") == {"lib/shapes/base.py"}


def test_a_file_that_is_not_python_is_named(lib):
    (lib / "lib/shapes/box.py").write_text("def")
    with pytest.raises(ValueError, match=r"box\.py: wanted Python, got invalid syntax"):
        reach(lib, BOX)
