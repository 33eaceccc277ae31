"""What a built book must hold, read from its HTML: `python -m lib.publishing.pages`.

Sphinx's own warnings cover the sources; these checks cover what it lets pass: a page that was not made, a
picture whose alternative text is its file name, a widget that would stay blank, anything loaded from another
site, a dead link.
"""

import argparse
import functools
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag

from bs4 import BeautifulSoup, Tag

from lib.publishing import notebooks, repository

# Attributes by which a browser fetches something without being asked to.
_FETCHED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "input": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "link": ("href",),
}
_ONLY_NAMED = {"author", "canonical", "index", "license", "next", "prev", "search"}  # <link rel>: not fetched
_ELSEWHERE = re.compile(r"^(https?:)?//", re.IGNORECASE)
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_CSS_ELSEWHERE = re.compile(r"""(?:url\(\s*|@import\s+)["']?(?:https?:)?//[^"')\s;]+""", re.IGNORECASE)
_SCRIPT_ELSEWHERE = re.compile(r"""["'`](?:https?:)?//[^"'`\s]+\.(?:m?js|css)\b""", re.IGNORECASE)
_WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
_LINES = re.compile(r"^L(\d+)(?:-L(\d+))?$")


class Finding(NamedTuple):
    """One fault: the file, the element or line, and what is wrong with it."""

    file: str
    element: str
    fault: str

    def __str__(self) -> str:
        """One line for the terminal."""
        return f"{self.file}: {self.fault}: {self.element}" if self.element else f"{self.file}: {self.fault}"


class Site:
    """The built HTML under `built` of the book whose sources stand under `root`."""

    def __init__(self, root: Path, built: Path):
        self.root, self.built = root.resolve(), built.resolve()
        self.repository = repository.address(root)

    def files(self) -> list[Path]:
        """Every HTML page; the theme keeps templates of its own among the static files."""
        found = (path.relative_to(self.built) for path in self.built.rglob("*.html"))
        return sorted(path for path in found if path.parts[0] not in ("_static", "_sources"))

    @functools.cache  # noqa: B019  the site lives as long as the command
    def page(self, file: Path) -> BeautifulSoup:
        """The parsed page."""
        return BeautifulSoup((self.built / file).read_text(encoding="utf-8"), "html.parser")

    @functools.cache  # noqa: B019
    def anchors(self, file: Path) -> set[str]:
        """Every place in a page that a link may name."""
        named = self.page(file).find_all(lambda tag: tag.has_attr("id") or tag.has_attr("name"))
        return {value for tag in named for value in (_value(tag, "id"), _value(tag, "name")) if value}


def findings(root: Path, built: Path) -> list[Finding]:
    """All faults of the HTML under `built`, page by page; empty for a good book."""
    site = Site(root, built)
    found = list(missing_pages(site))
    for file in site.files():
        for check in (alternative_texts, widget_states, fetched, links):
            found += check(site, file)
    return found + list(style_sheets(site))


def missing_pages(site: Site) -> Iterator[Finding]:
    """Pages of `_toc.yml` that the build did not make."""
    for page in notebooks.pages(site.root):
        if not (site.built / f"{page}.html").exists():
            yield Finding(f"{page}.html", "", "is in _toc.yml but was not made")


def alternative_texts(site: Site, file: Path) -> Iterator[Finding]:
    """Pictures in the text whose alternative text is missing, empty, or the name of their file."""
    page = site.page(file)
    for image in (page.find("article") or page).find_all("img"):
        text = _value(image, "alt").strip()
        if not text:
            yield Finding(str(file), _short(image), "picture without alternative text")
        elif "_images/" in text or re.fullmatch(r"\S+\.(png|jpe?g|gif|svg|webp)", text):
            yield Finding(str(file), _short(image), "picture whose alternative text is a file name")


def widget_states(site: Site, file: Path) -> Iterator[Finding]:
    """Widgets that the page would leave blank, since their state was not stored."""
    scripts = site.page(file).find_all("script", type=True)
    states = " ".join(script.string or "" for script in scripts if script["type"] == _WIDGET_STATE)
    for script in scripts:
        if script["type"] == notebooks.WIDGET_VIEW:
            model = re.search(r'"model_id":\s*"([^"]+)"', script.string or "")
            if model is None or f'"{model[1]}"' not in states:
                yield Finding(str(file), (script.string or "").strip()[:120], "widget view without its state")


def fetched(site: Site, file: Path) -> Iterator[Finding]:
    """Scripts, styles, pictures and fonts that come from another site, or are not there."""
    for tag in site.page(file).find_all(list(_FETCHED)):
        if tag.name == "link" and _ONLY_NAMED & set(tag.get_attribute_list("rel")):
            continue
        for attribute in _FETCHED[tag.name]:
            for address in _addresses(_value(tag, attribute), attribute):
                if _ELSEWHERE.match(address):
                    yield Finding(str(file), _short(tag), "loaded from another site")
                elif not _SCHEME.match(address) and (fault := _unreachable(site, file, address)):
                    yield Finding(str(file), _short(tag), fault)
    for tag in site.page(file).find_all(["script", "style"]):
        pattern = _CSS_ELSEWHERE if tag.name == "style" else _SCRIPT_ELSEWHERE
        if (tag.name == "style" or not tag.get("src")) and (match := pattern.search(tag.string or "")):
            yield Finding(str(file), f"<{tag.name}> {match[0]}", "loads from another site")
    for tag in site.page(file).find_all(style=_CSS_ELSEWHERE):
        yield Finding(str(file), _short(tag), "loaded from another site")


def links(site: Site, file: Path) -> Iterator[Finding]:
    """Links to a page or a place that the book does not have, or to a file that the repository lacks."""
    for tag in site.page(file).find_all("a", href=True):
        address = _value(tag, "href")
        if _ELSEWHERE.match(address) or _SCHEME.match(address):
            fault = _missing_in_repository(site, address)
        else:
            fault = _unreachable(site, file, address)
        if fault:
            yield Finding(str(file), _short(tag), fault)


def style_sheets(site: Site) -> Iterator[Finding]:
    """Style sheets that fetch fonts, pictures or other sheets from another site."""
    for path in sorted(site.built.rglob("*.css")):
        for match in _CSS_ELSEWHERE.finditer(path.read_text(encoding="utf-8")):
            yield Finding(str(path.relative_to(site.built)), match[0], "loads from another site")


def _value(tag: Tag, attribute: str) -> str:
    """What an attribute says, empty without it; several words, as in `class`, in one line."""
    value = tag.get(attribute) or ""
    return value if isinstance(value, str) else " ".join(value)


def _addresses(value: str, attribute: str) -> list[str]:
    if not value or value.startswith("data:"):
        return []
    if attribute == "srcset":
        return [part.split()[0] for part in value.split(",") if part.strip()]
    return [value]


def _unreachable(site: Site, file: Path, address: str) -> str | None:
    """Why an address inside the site leads nowhere from the page `file`; None when it leads somewhere."""
    path, anchor = urldefrag(address)
    path = unquote(path.split("?")[0])
    if path.startswith("/"):
        return "address from the root of the server, dead on a project's pages and from file://"
    target = (site.built / file.parent / path).resolve() if path else site.built / file
    if not target.is_relative_to(site.built) or not target.is_file():
        return "leads to a file that is not there"
    if anchor and target.suffix == ".html":
        known = site.anchors(target.relative_to(site.built))
        if anchor not in known and unquote(anchor) not in known:
            return "leads to a place that is not there"
    return None


def _missing_in_repository(site: Site, address: str) -> str | None:
    """Why a link to a file of the repository is dead; None for a good one and for addresses elsewhere."""
    path, anchor = urldefrag(address.replace(repository.COLAB, repository.GITHUB))
    match = re.fullmatch(re.escape(site.repository) + r"/(?:blob|tree|edit|raw)/[^/]+/(.+)", path)
    if match is None:
        return None
    target = site.root / unquote(match[1])
    if not target.exists():
        return "leads to a file that the repository does not have"
    lines = _LINES.match(anchor)
    if lines and int(lines[2] or lines[1]) > len(target.read_text(encoding="utf-8").splitlines()):
        return "leads to lines that the file does not have"
    return None


def _short(tag: Tag) -> str:
    """The start tag, with long attributes cut."""
    attributes = (f' {name}="{str(value)[:80]}"' for name, value in tag.attrs.items() if name != "style")
    return f"<{tag.name}{''.join(attributes)}>"[:200]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="the repository's folder")
    parser.add_argument("--built", type=Path, help="the built HTML; by default _build/html under the root")
    options = parser.parse_args(arguments)
    built = options.built or options.root / "_build" / "html"
    found = findings(options.root, built)
    for finding in found:
        print(finding)
    if not found:
        print(f"{len(notebooks.pages(options.root))} pages checked, open {(built / 'index.html').resolve()}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
