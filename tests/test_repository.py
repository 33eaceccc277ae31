"""The repository agrees with itself: its address, its version, its settings."""

import re
import subprocess
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lib
from lib.notebook import setup
from lib.publishing import notebooks, repository

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = repository.address(ROOT)
PAGES = repository.pages_address(ADDRESS)
CHAPTERS = notebooks.chapters(ROOT)
PINS = [
    Requirement(line.split("#")[0])
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line.split("#")[0].strip()
]


def load(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def texts():
    """Every text file that git knows or would add, without what others wrote."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and "mathjax" not in path.parts:
            try:
                yield name, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def test_the_address_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    config, citation = load("_config.yml"), load("CITATION.cff")
    assert repository.validate(ADDRESS) == ADDRESS
    assert project["urls"] == {"Repository": ADDRESS, "Documentation": PAGES}
    assert (citation["repository-code"], citation["url"]) == (ADDRESS, PAGES)
    assert config["html"]["baseurl"] == config["sphinx"]["config"]["ogp_site_url"] == PAGES
    assert setup.repository() == ADDRESS, "the package was installed before the address changed: run make"


def test_one_command_reaches_every_place():
    """No text spells the address in a way that `make repository` would miss."""
    owner, name = ADDRESS.removeprefix(repository.GITHUB).split("/")
    known = re.compile("|".join(map(re.escape, (ADDRESS, ADDRESS.replace(repository.GITHUB, repository.COLAB), PAGES))))
    for file, text in texts():
        assert f"{owner}/{name}" not in known.sub("", text), f"{file} spells the address in its own way"


def test_the_version_is_the_same_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", lib.__version__)
    assert version("ai-image-generation-book") == lib.__version__ == load("CITATION.cff")["version"]
    pinned = re.compile(re.escape(ADDRESS) + r"(?:@|/blob/)v([0-9][\w.]*)")
    for file, text in texts():
        assert set(pinned.findall(text)) <= {lib.__version__}, file


def test_there_are_chapters():
    assert CHAPTERS


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_every_chapter_starts_with_the_one_setup_cell(path):
    first = next(cell for cell in notebooks.read(path).cells if cell.cell_type == "code")
    assert first.source == setup.setup_cell(ADDRESS, lib.__version__)
    assert "setup" in first.metadata.tags
    assert first.outputs == []


def test_pins_are_exact_and_installed():
    assert len({canonicalize_name(pin.name) for pin in PINS}) == len(PINS)
    for pin in PINS:
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, pin
        assert version(pin.name).split("+")[0] == specifier.version, pin


def test_everything_that_the_package_needs_is_pinned():
    pinned = {canonicalize_name(pin.name) for pin in PINS}
    needs = [Requirement(line) for line in requires("ai-image-generation-book")]
    assert needs
    for need in needs:
        assert canonicalize_name(need.name) in pinned, need
        bounded = {specifier.operator for specifier in need.specifier}
        assert bounded <= ({">="} if need.name not in ("torch", "numpy", "matplotlib") else set()), need


def test_the_workflow_runs_what_ci_runs_and_publishes_only_main():
    workflow = load(".github/workflows/book.yml")
    assert set(workflow[True]) == {"push", "pull_request", "workflow_dispatch"}  # YAML reads `on` as true
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]
    assert workflow["jobs"]["publish"]["needs"] == ["test", "quick"]
    assert workflow["jobs"]["quick"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert workflow["jobs"]["test"]["timeout-minutes"] >= 90
    assert "refs/heads/main" in workflow["jobs"]["publish"]["if"]
    assert workflow["permissions"] == {"contents": "read"}
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_asset_folder_has_no_name_that_jupyter_book_injects():
    assert not (ROOT / "_static").exists()
    assert load("_config.yml")["sphinx"]["config"]["html_static_path"] == ["book/assets"]
