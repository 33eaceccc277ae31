"""Numbers of chapters on pages in Markdown, through Sphinx."""

import io
import json
import sys

import pytest
import yaml
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from lib.publishing import quotes
from tests.publishing.test_findings import ROOT


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Builds a page of one line; returns its text, the warnings, and Sphinx's environment."""
    file = tmp_path / "findings.json"
    file.write_text(json.dumps({"vae elbo": -103.24, "vae share": 0.254, "vae n": 60_000}))
    monkeypatch.setattr(quotes, "FILE", file)
    monkeypatch.setattr(sys.modules["lib.notebook.finding"], "FILE", file)

    def build(text):
        (tmp_path / "index.md").write_text(f"# Page\n\n{text}\n")
        said = io.StringIO()
        with docutils_namespace():
            extensions = {"extensions": ["myst_parser", "lib.publishing.quotes"]}
            folders = (tmp_path, None, tmp_path / "built", tmp_path / "trees")
            app = Sphinx(*folders, "text", extensions, status=None, warning=said)
            app.build()
        return (tmp_path / "built" / "index.txt").read_text().splitlines()[-1], said.getvalue(), app.env

    return build


def test_a_page_quotes_numbers_and_is_read_again_when_they_change(build, tmp_path):
    text, said, env = build("The VAE: {found}`vae elbo .1f` nats, {found}`vae share .0%` of {found}`vae n ,d`.")
    assert text == "The VAE: −103.2 nats, 25% of 60,000."
    assert said == ""
    assert str(tmp_path / "findings.json") in {str(tmp_path / name) for name in env.dependencies["index"]}


@pytest.mark.parametrize(
    ("quote", "fault"),
    [
        ("vae loss .1f", "found: wanted one of vae elbo, vae share, vae n; got vae loss"),
        ("vae elbo", "wanted a chapter, a name and a format, got 'vae elbo'"),
        ("vae elbo d", "elbo: wanted a format for -103.24, got 'd'"),
    ],
)
def test_what_cannot_be_quoted_is_a_warning_with_its_place(build, quote, fault):
    _, said, _ = build(f"The VAE: {{found}}`{quote}` nats.")
    assert fault in said and "index.md:3" in said


def test_the_book_has_the_role():
    settings = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert quotes.__name__ in settings["sphinx"]["config"]["extensions"]
