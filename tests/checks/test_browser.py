"""Faults planted in a page, and a machine without a browser: the tests of the built pages must see each."""

import pytest
from playwright.sync_api import sync_playwright

from tests.checks.project import ROOT, copy, run
from tests.html import formulas
from tests.html.browser import FLAGS, find_or_install
from tests.html.looks import dress, serious_faults, sideways, thin
from tests.html.watch import opened

PAGE = r"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A page</title>
<script src="book/assets/mathjax/es5/tex-chtml.js"></script>
<style>[data-theme=dark] body { background: #111; color: #eee } [data-theme=dark] .dim { color: #333 }</style>
</head><body><main><article><h1>A page</h1><p>A formula: \(x^2\).</p>BODY</article></main></body></html>"""

# What is planted, and what is said of it.
FAULTS = {
    '<img alt="far" src="https://example.com/a.png">': "https://example.com/a.png",
    '<img alt="gone" src="gone.png">': "ERR_FILE_NOT_FOUND",
    "<script>console.error('said aloud')</script>": "said aloud",
    "<script>throw new Error('thrown')</script>": "uncaught: thrown",
    r"<p>A formula \(\frac\).</p>": r"in error: Missing argument for \frac",
    r"<p>A formula \(\unheardof\).</p>": r"in error: \unheardof",
    r"<p>Left open: \(x^2.</p>": r"Left open: \(",
    "<p>It costs $x$.</p>": "It costs $",
    '<div style="width: 800px">wide</div>': "px in a window of 390 px",
    '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=">': "light: image-alt (critical)",
    '<p style="color: #bbb">Pale.</p>': "light: color-contrast (serious)",
    '<p class="dim">Dim in the dark.</p>': "dark: color-contrast (serious)",
    # Behind formulas of the same signs without these faults, whose likes are not looked at again.
    r"<p>\(\text{☃}\) \(\color{#dddddd}{\text{☃}}\)</p>": "<mjx-utext",
    r"<p>\(y^2\) \(\href{a.html}{y^2}\)</p>": "light: aria-hidden-focus (serious)",
    '<a class="bare" href="#"><mjx-container><mjx-math></mjx-math></mjx-container></a>': "light: link-name (serious)",
}


@pytest.fixture(scope="module")
def look(tmp_path_factory):
    """Opens a page with a given body at a phone's width; returns all that the tests would say of it."""
    folder = tmp_path_factory.mktemp("pages")
    copy(folder, "book/assets/mathjax")

    def visit(body):
        (folder / "page.html").write_text(PAGE.replace("BODY", body))
        with opened(window, f"{folder.as_uri()}/", "page.html") as (page, watch):
            found = watch.faults() + formulas.faults(page, 1) + sideways(page)
            thin(page)
            for mode in ("light", "dark"):
                dress(page, mode)
                found += [f"{mode}: {fault}" for fault in serious_faults(page, mode)]
            return found

    path = find_or_install()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        window = browser.new_context(viewport={"width": 390, "height": 844})
        yield visit
        browser.close()


@pytest.fixture(scope="module")
def found(look):
    return look("".join(FAULTS))


def test_a_sound_page_passes(look):
    assert look("") == []


@pytest.mark.parametrize("message", FAULTS.values(), ids=FAULTS)
def test_a_fault_on_a_page_is_seen(found, message):
    assert any(message in fault for fault in found), found


def test_a_machine_without_a_browser_fails(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text("#!/bin/sh\necho no archive can be reached\nexit 100\n")
    apt.chmod(0o755)
    nowhere = {"PLAYWRIGHT_BROWSERS_PATH": str(tmp_path), "PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9"}
    refused = run("tests.html.browser", ROOT, PATH=str(programs), **nowhere)
    assert refused.returncode == 1
    assert "no Chromium was found and none could be installed" in refused.stdout
    assert "playwright install chromium ended with 1" in refused.stdout
