import pytest

from lib.notebook.setup import is_setup_cell
from lib.publishing import execute, notebooks, skeleton


def test_a_new_chapter_has_the_cells_of_every_chapter(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book").mkdir()
    assert skeleton.main(["book/flow", "Flow matching"]) == 0
    assert "Enter `- file: book/flow` in _toc.yml" in capsys.readouterr().out
    path = tmp_path / "book" / "flow.ipynb"
    notebook = notebooks.read(path)
    assert notebook == notebooks.normalise(notebook)
    title, setup, imports, *others = notebook.cells
    assert title.source.startswith("# Flow matching\n") and is_setup_cell(setup.source)
    assert (setup.metadata.tags, imports.metadata.tags) == (["setup"], ["imports"])
    assert [cell.source.splitlines()[0] for cell in others] == [f"## {heading}" for heading in skeleton.ARC]
    with pytest.raises(ValueError, match=r"book/flow is not in _toc\.yml"):
        (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n")
        execute.choose("flow", tmp_path)


def test_nothing_is_overwritten(tmp_path, capsys):
    path = tmp_path / "waves.ipynb"
    path.write_text("mine")
    for chapter, why in ((path, "is there already"), (tmp_path / "gone" / "waves", "there is no folder")):
        with pytest.raises(SystemExit, match="2"):
            skeleton.main([str(chapter), "Waves"])
        assert why in capsys.readouterr().err
    assert path.read_text() == "mine"
