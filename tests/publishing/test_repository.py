import subprocess

import pytest

from lib.publishing import execute, fingerprint, notebooks, repository
from tests.publishing.conftest import ADDRESS, put

NEW = "https://github.com/New-Owner/new_book.v2"


@pytest.fixture
def book_in_git(book):
    """The small book with its address in many places, known to git."""
    (book / "README.md").write_text(
        f"[code]({ADDRESS}), [file]({ADDRESS}/blob/v1/lib/__init__.py), clone {ADDRESS}.git now. {ADDRESS}.\n"
        f"Not ours: {ADDRESS}-of-others, {ADDRESS}.wiki and https://github.com/someone/else.\n"
        "[pages](https://someone.github.io/some-book/book/waves.html)\n"
        "[Colab](https://colab.research.google.com/github/someone/some-book/blob/main/book/waves.ipynb)\n"
    )
    (book / "lib" / "tools" / "waves.py").write_text(f'ADDRESS = "{ADDRESS}"\n\n\ndef wave():\n    return ADDRESS\n')
    (book / "picture.png").write_bytes(b"\x89PNG" + ADDRESS.encode())
    (book / ".gitignore").write_text("ignored.md\n")
    (book / "ignored.md").write_text(ADDRESS)
    put(book, f"# from {ADDRESS}@v1", "from lib.tools import wave", "print(wave())")
    subprocess.run(["git", "init", "-q"], cwd=book, check=True)
    return book


def test_the_address_is_replaced_everywhere_and_nothing_else(book_in_git):
    changed = repository.rewrite(book_in_git, NEW)
    assert changed == ["README.md", "_config.yml", "book/waves.ipynb", "lib/tools/waves.py"]
    assert repository.address(book_in_git) == NEW
    assert (book_in_git / "README.md").read_text() == (
        f"[code]({NEW}), [file]({NEW}/blob/v1/lib/__init__.py), clone {NEW}.git now. {NEW}.\n"
        f"Not ours: {ADDRESS}-of-others, {ADDRESS}.wiki and https://github.com/someone/else.\n"
        "[pages](https://new-owner.github.io/new_book.v2/book/waves.html)\n"
        "[Colab](https://colab.research.google.com/github/New-Owner/new_book.v2/blob/main/book/waves.ipynb)\n"
    )
    assert (book_in_git / "ignored.md").read_text() == ADDRESS
    assert ADDRESS.encode() in (book_in_git / "picture.png").read_bytes()
    assert notebooks.read(book_in_git / "book" / "waves.ipynb").cells[1].source == f"# from {NEW}@v1"


def test_back_again_gives_the_same_files(book_in_git):
    before = {path: path.read_bytes() for path in book_in_git.rglob("*") if path.is_file() and ".git/" not in str(path)}
    repository.rewrite(book_in_git, NEW)
    repository.rewrite(book_in_git, ADDRESS)
    assert {path: path.read_bytes() for path in before} == before
    assert repository.rewrite(book_in_git, ADDRESS) == []


def test_fresh_outputs_stay_fresh_and_stale_ones_stale(book_in_git):
    path = book_in_git / "book" / "waves.ipynb"
    execute.execute(path, book_in_git)
    repository.rewrite(book_in_git, NEW)
    assert notebooks.read(path).cells[-1].outputs[0].text == f"{NEW}\n"
    assert execute.faults(path, book_in_git) == []
    (book_in_git / "lib" / "tools" / "waves.py").write_text("def wave():\n    return 1\n")
    repository.rewrite(book_in_git, ADDRESS)
    assert "lib/tools/waves.py changed" in fingerprint.stale(path, book_in_git)


@pytest.mark.parametrize("ending", ["", "/", ".git", ".git/"])
def test_endings_that_browsers_and_git_add_are_taken_off(ending):
    assert repository.validate(f" {NEW}{ending} ") == NEW


@pytest.mark.parametrize(
    "url",
    [
        "",
        "someone/some-book",
        "http://github.com/someone/some-book",
        "https://example.com/someone/some-book",
        "https://github.com/someone",
        "https://github.com/someone/some-book/tree/main",
        "https://github.com/-someone/some-book",
        "https://github.com/some--one/some-book",
        "https://github.com/someone/some book",
        "https://github.com/someone/..",
        'https://github.com/someone/"book',
    ],
)
def test_a_bad_address_is_refused_before_anything_is_written(book_in_git, url, capsys):
    before = (book_in_git / "README.md").read_bytes()
    with pytest.raises(ValueError, match=r"URL: wanted https://github.com/OWNER/NAME, got"):
        repository.rewrite(book_in_git, url)
    with pytest.raises(SystemExit):
        repository.main([url, "--root", str(book_in_git)])
    assert "URL: wanted https://github.com/OWNER/NAME, got" in capsys.readouterr().err
    assert (book_in_git / "README.md").read_bytes() == before


def test_the_pages_of_an_owner_stand_at_the_top():
    assert repository.pages_address("https://github.com/Ann/ann.github.io") == "https://ann.github.io/"
    assert repository.pages_address("https://github.com/Ann/book") == "https://ann.github.io/book/"


def test_the_command_says_what_it_rewrote(book_in_git, capsys):
    assert repository.main([NEW, "--root", str(book_in_git)]) == 0
    said = capsys.readouterr().out
    assert "rewritten: README.md" in said and "https://new-owner.github.io/new_book.v2/" in said
