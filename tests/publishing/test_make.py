"""What is given to `make` reaches the commands as it was typed, and nothing in it is run."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lib.notebook.finding import MUST_HOLD

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = "#!/bin/sh\nprintf '%s\\0' \"$@\" >> arguments\nprintf '\\n' >> arguments\n"
ATTACKS = [
    'x"; touch pwned; "',
    "x'; touch pwned; '",
    "x; touch pwned",
    "$(touch pwned)",
    "$(shell touch pwned)",
    "`touch pwned`",
    "x\ntouch pwned",
    "$HOME $$HOME ${HOME}",
    "a  b\\c * # d",
]


@pytest.fixture
def project(tmp_path):
    """The book's Makefile beside programs that only write down their arguments, one line a call."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("_config.yml", "_toc.yml", "requirements.txt", "pyproject.toml", "lib/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for program in ("python", "pip", "jupyter-book"):
        file = tmp_path / ".venv" / "bin" / program
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(STAND_IN)
        file.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    return tmp_path


def make(project, *words):
    """Runs `make` and returns the arguments of every call of a stand-in."""
    variables = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS", name)}
    done = subprocess.run(["make", *words], cwd=project, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (project / "arguments").read_text().split("\0\n")
    return [line.split("\0") for line in lines[:-1]]


@pytest.mark.parametrize("value", ATTACKS)
@pytest.mark.parametrize(
    ("target", "variable", "module", "options"),
    [
        ("repository", "URL", "lib.publishing.repository", []),
        ("execute", "CHAPTER", "lib.publishing.execute", ["--chapter"]),
        ("photographs", "PAGE", "tests.html.photographs", []),
    ],
)
def test_a_value_is_one_argument_and_not_run(project, target, variable, module, options, value):
    called = make(project, target, f"{variable}={value}")
    assert ["-m", module, *options, value] in called
    assert not (project / "pwned").exists()


def test_when_the_chapters_are_tested_each_finding_must_hold(project):
    lines = subprocess.run(["make", "-n", "test"], cwd=project, check=True, capture_output=True, text=True).stdout
    (tested,) = [line for line in lines.splitlines() if "--nbval" in line]
    assert f"{MUST_HOLD}=1 " in tested


def test_without_values_there_are_no_arguments(project):
    assert ["-m", "lib.publishing.execute"] in make(project, "execute")
    assert ["-m", "tests.html.photographs"] in make(project, "photographs")
    assert ["-m", "lib.publishing.execute", "--force"] in make(project, "execute", "FORCE=1")
