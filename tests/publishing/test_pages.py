"""Each fault planted in a small site of plain HTML; the same site without it is found good."""

import json

import pytest

from lib.publishing import notebooks, pages

GOOD = """<!DOCTYPE html>
<html><head>
<link rel="stylesheet" href="../_static/book.css?v=1"><link rel="canonical" href="https://someone.github.io/x">
<script src="../_static/book.js"></script><script>let where = "https://example.com/page";</script>
</head><body>
<img src="../_static/logo.svg">
<article>
<h1 id="top">Page</h1>
<img src="../_images/wave.png" alt="A wave of two periods">
<img src="data:image/png;base64,AAAA" alt="A small one" style="display:none">
<a href="#top">up</a> <a href="other.html#there">on</a> <a href="other.html?q=a%20b">on</a>
<a href="mailto:a@b.c">mail</a>
<a href="../_sources/book/page.ipynb">get</a> <a href="https://example.com/gone#x">elsewhere</a>
<a href="https://github.com/someone/some-book/blob/v1/lib/tools/waves.py#L1-L2">source</a>
<a href="https://colab.research.google.com/github/someone/some-book/blob/main/book/waves.ipynb">run</a>
</article></body></html>
"""


@pytest.fixture
def site(book):
    """A sound built site beside the sources of the small book."""
    built = book / "_build" / "html"
    files = {
        "book/index.html": GOOD,
        "book/waves.html": GOOD,
        "book/other.html": '<article><h2 id="there">Other</h2><a name="old"></a></article>',
        "_static/book.css": "@font-face{src:url(fonts/a.woff)} a{background:url(data:image/png;base64,A)}",
        "_static/book.js": "",
        "_static/logo.svg": "<svg/>",
        "_static/template.html": '<script src="https://example.com/a.js"></script>',
        "_images/wave.png": "",
        "_sources/book/page.ipynb": "",
    }
    for name, text in files.items():
        (built / name).parent.mkdir(parents=True, exist_ok=True)
        (built / name).write_text(text)
    return book


def found(site):
    return [str(finding) for finding in pages.findings(site, site / "_build" / "html")]


def put(site, element, before="</article>"):
    path = site / "_build" / "html" / "book" / "waves.html"
    path.write_text(GOOD.replace(before, element + before))


def test_a_sound_site_has_no_faults(site, capsys):
    assert found(site) == []
    assert pages.main(["--root", str(site)]) == 0
    assert str(site / "_build" / "html" / "index.html") in capsys.readouterr().out


def test_a_page_that_was_not_made(site, capsys):
    (site / "_build" / "html" / "book" / "waves.html").unlink()
    assert found(site) == ["book/waves.html: is in _toc.yml but was not made"]
    assert pages.main(["--root", str(site)]) == 1
    assert "book/waves.html" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        ('<img src="../_images/wave.png">', "picture without alternative text"),
        ('<img src="../_images/wave.png" alt=" ">', "picture without alternative text"),
        (
            '<img src="../_images/wave.png" alt="../_images/wave.png">',
            "picture whose alternative text is a file name",
        ),
        ('<img src="../_images/wave.png" alt="wave.png">', "picture whose alternative text is a file name"),
        ('<img src="../_images/none.png" alt="A wave">', "leads to a file that is not there"),
        ('<img src="https://example.com/a.png" alt="A wave">', "loaded from another site"),
        (
            '<img src="../_images/wave.png" srcset="//example.com/a.png 2x" alt="A wave">',
            "loaded from another site",
        ),
        ('<script src="https://example.com/a.js"></script>', "loaded from another site"),
        ('<script src="../_static/none.js"></script>', "leads to a file that is not there"),
        ('<script>import("https://example.com/a.mjs")</script>', "loads from another site"),
        ('<link rel="stylesheet" href="//example.com/a.css">', "loaded from another site"),
        ('<link rel="preconnect" href="https://example.com">', "loaded from another site"),
        ('<iframe src="https://example.com"></iframe>', "loaded from another site"),
        ('<p style="background: url(https://example.com/a.png)">x</p>', "loaded from another site"),
        ('<style>@import "https://example.com/a.css";</style>', "loads from another site"),
        ('<a href="none.html">x</a>', "leads to a file that is not there"),
        ('<a href="../../../secret.html">x</a>', "leads to a file that is not there"),
        ('<a href="other.html#nowhere">x</a>', "leads to a place that is not there"),
        ('<a href="#nowhere">x</a>', "leads to a place that is not there"),
        (
            '<a href="/book/other.html">x</a>',
            "address from the root of the server, dead on a project's pages and from file://",
        ),
        (
            '<a href="https://github.com/someone/some-book/blob/v1/lib/none.py">x</a>',
            "leads to a file that the repository does not have",
        ),
        (
            '<a href="https://colab.research.google.com/github/someone/some-book/blob/main/none.ipynb">x</a>',
            "leads to a file that the repository does not have",
        ),
        (
            '<a href="https://github.com/someone/some-book/blob/v1/lib/tools/waves.py#L2-L3">x</a>',
            "leads to lines that the file does not have",
        ),
    ],
)
def test_one_fault_is_found_once_and_named(site, element, fault):
    put(site, element)
    (line,) = found(site)
    assert line.startswith(f"book/waves.html: {fault}: <")


def test_names_and_ids_are_places(site):
    put(site, '<a href="other.html#old">x</a>')
    assert found(site) == []


def test_a_style_sheet_that_loads_a_font_from_elsewhere(site):
    sheet = site / "_build" / "html" / "_static" / "book.css"
    sheet.write_text("@font-face { src: url('https://example.com/a.woff2') }")
    assert found(site) == ["_static/book.css: loads from another site: url('https://example.com/a.woff2"]


def test_a_widget_needs_its_state(site):
    view = f'<script type="{notebooks.WIDGET_VIEW}">{json.dumps({"model_id": "ab12"})}</script>'
    put(site, view)
    (line,) = found(site)
    assert line.startswith("book/waves.html: widget view without its state")
    state = json.dumps({"state": {"ab12": {"model_name": "IntSliderModel"}}})
    put(site, view + f'<script type="application/vnd.jupyter.widget-state+json">{state}</script>')
    assert found(site) == []
