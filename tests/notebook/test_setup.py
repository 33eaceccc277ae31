"""The repository's address, and the first cell of every chapter."""

import sys
import tomllib
import types
from email.message import Message
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

import lib
from lib.notebook import setup

ADDRESS = "https://github.com/someone/book"


def installed(*entries):
    """Metadata of a package that was installed with these project URLs."""
    message = Message()
    for entry in entries:
        message["Project-URL"] = entry
    return lambda name: message


def test_the_repository_is_the_one_in_pyproject(monkeypatch):
    project = tomllib.loads(Path(lib.__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    assert setup.repository() == project["urls"]["Repository"], "installed from another state: run pip install -e ."
    assert project["name"] == setup.DISTRIBUTION
    monkeypatch.setattr(setup, "metadata", installed("Documentation, https://x.org", f"Repository, {ADDRESS}/"))
    assert setup.repository() == ADDRESS


def test_a_package_without_its_address_says_so(monkeypatch):
    monkeypatch.setattr(setup, "metadata", installed("Documentation, https://x.org"))
    with pytest.raises(RuntimeError, match="without the project URL"):
        setup.repository()

    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(setup, "metadata", missing)
    with pytest.raises(RuntimeError, match="is not installed"):
        setup.repository()


def run(cell):
    """Runs the cell as IPython would and returns the magics it called."""
    called = []
    shell = types.SimpleNamespace(run_line_magic=lambda name, line: called.append((name, line)))
    exec(TransformerManager().transform_cell(cell), {"get_ipython": lambda: shell})
    return called


def test_the_cell_fetches_the_book_on_colab_and_nothing_elsewhere(monkeypatch):
    cell = setup.setup_cell(ADDRESS, "1.2.3")
    assert run(cell) == []
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    assert run(cell) == [("pip", f'install --quiet "git+{ADDRESS}@v1.2.3"')]


def test_another_lib_is_named_with_the_way_out(monkeypatch):
    other = types.ModuleType("lib")
    other.__version__, other.__file__ = "3.0", "/home/reader/lib.py"
    monkeypatch.setitem(sys.modules, "lib", other)
    with pytest.raises(ImportError, match=r"/home/reader/lib.py'> hides the book's lib: rename it, restart"):
        run(setup.setup_cell(ADDRESS, "1.2.3"))


def test_the_cell_names_this_repository_and_this_version():
    assert setup.setup_cell() == setup.setup_cell(setup.repository(), lib.__version__)
    assert f'"git+{setup.repository()}@v{lib.__version__}"' in setup.setup_cell()


def test_a_setup_cell_is_known_for_any_repository_and_nothing_else_is():
    for address, number in ((ADDRESS, "0.1.0"), ("file:///tmp/a.b/clone", "10.2.0rc1")):
        cell = setup.setup_cell(address, number)
        assert setup.is_setup_cell(cell) and setup.is_setup_cell(cell + "\n")
        assert not setup.is_setup_cell(cell + "\nprint()")
        assert not setup.is_setup_cell(cell.replace("--quiet", "--quiet torch"))
        assert not setup.is_setup_cell(cell.replace("google.colab", "google_colab"))
        assert not setup.is_setup_cell(cell.replace(number, f'{number}" "torch'))
    assert not setup.is_setup_cell("import sys")
