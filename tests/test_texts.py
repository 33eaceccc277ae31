"""What the texts around the book say about it, held against the book: names, commands, references."""

import re
from pathlib import Path

import pytest
import yaml
from pybtex.database import parse_file

import lib

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ["README.md", "CONTRIBUTING.md", "book/index.md", "book/how-to-read.md"]
UNNUMBERED = {"rumelhart1986internal", "hoffman2016elbo"}  # a book's chapter and a workshop paper


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_book_has_one_title():
    title = yaml.safe_load(read("_config.yml"))["title"]
    assert read("README.md").startswith(f"# {title}\n")
    assert read("book/index.md").startswith(f"# {title}\n")
    assert yaml.safe_load(read("CITATION.cff"))["title"].startswith(f"{title}: ")
    assert f'"{title}"' in read("LICENSE") and f'"{title}"' in read("LICENSE-TEXT")


def test_the_version_is_the_same_everywhere():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == lib.__version__
    assert f"git tag v{lib.__version__}`" in read("CONTRIBUTING.md")


@pytest.mark.parametrize("name", TEXTS)
def test_every_command_named_in_a_text_exists(name):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", read(name), re.MULTILINE))
    assert named, f"{name} names no command any more: take it off the list"
    assert named <= targets


def test_every_path_named_in_a_text_exists():
    for name in TEXTS:
        named = re.findall(r"`((?:book|lib|tests)/[\w./-]*)`", read(name))
        missing = [path for path in named if not (ROOT / path).exists()]
        assert not missing, f"{name} names {missing}"
    layout = re.search(r"## Layout\n\n```\n(.*?)```", read("README.md"), re.DOTALL)[1]
    paths = [word for line in layout.splitlines() for word in line.split("  ")[0].split()]
    assert len(paths) >= 8
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_references_can_be_found():
    entries = parse_file(str(ROOT / "book/references.bib"), bib_format="bibtex").entries
    assert len(entries) > 50
    for key, entry in entries.items():
        assert re.fullmatch(r"[a-z]+(19|20)\d\d[a-z0-9]+", key), f"{key}: wanted firstauthor, year, word"
        assert {"title", "year"} <= set(entry.fields) and "author" in entry.persons, f"{key} is incomplete"
        assert entry.fields["year"] in key, f"{key}: the key's year is not {entry.fields['year']}"
        found = {"doi", "eprint", "url"} & set(entry.fields)
        assert found or key in UNNUMBERED, f"{key} has no DOI, arXiv number or URL"


def test_no_paper_is_listed_twice():
    entries = parse_file(str(ROOT / "book/references.bib"), bib_format="bibtex").entries
    titles = [re.sub(r"[^a-z]", "", entry.fields["title"].lower()) for entry in entries.values()]
    numbers = [entry.fields[kind] for entry in entries.values() for kind in {"doi", "eprint"} & {*entry.fields}]
    for listed in (titles, numbers):
        assert len(listed) == len(set(listed)), {item for item in listed if listed.count(item) > 1}


def test_every_term_of_the_glossary_is_explained_once_and_used():
    entries = re.search(r"```\{glossary\}\n:sorted:\n(.*?)\n```", read("book/glossary.md"), re.DOTALL)[1]
    terms = re.findall(r"^(\S.*)$", entries, re.MULTILINE)
    assert len(terms) > 30 and len(terms) == len(set(terms))
    chapters = " ".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("book/*/*.ipynb")))
    pages = " ".join(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("book/*.md")))
    text = re.sub(r"\s+", " ", f"{chapters} {pages}".replace("\\n", " ")).lower()
    unused = [term for term in terms if text.count(term.lower()) < 2]
    assert not unused, f"explained but used nowhere: {unused}"
