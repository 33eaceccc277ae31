"""What an import of a package costs and changes, each in a fresh process."""

import json
import subprocess
import sys

import pytest

# Each takes from a tenth of a second to some seconds; what needs it imports it when it is used.
HEAVY = (
    "accelerate", "matplotlib", "pycocotools", "scipy.linalg", "scipy.optimize", "scipy.stats", "skimage", "sympy",
    "torchmetrics", "torchvision",
)  # fmt: skip
PACKAGES = (
    "attention",
    "autoencoders",
    "detection",
    "diffusion",
    "figures",
    "notebook",
    "training",
    "vision_transformers",
)


def fresh(code):
    """What a process of its own, with torch there already, prints as JSON."""
    lines = f"import json, sys, time, torch\n{code}"
    return json.loads(subprocess.run([sys.executable, "-c", lines], check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("package", ["detection", "notebook"])
def test_imports_nothing_that_takes_long(package):
    loaded = fresh(f"import lib.{package}\nprint(json.dumps(list(sys.modules)))")
    assert f"lib.{package}" in loaded and not set(HEAVY) & set(loaded)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["detection", "notebook"])
def test_is_imported_in_no_time(package):
    clock = "time.process_time()"  # the processor's, which does not run while others do
    code = f"start = {clock}\nimport lib.{package}\nprint({clock} - start)"
    assert min(fresh(code) for _ in range(5)) < 0.4


def test_no_package_changes_the_settings_of_matplotlib():
    imports = "".join(f"import lib.{package}\n" for package in PACKAGES)
    code = f"import matplotlib\nbefore = dict(matplotlib.rcParams)\n{imports}"
    assert fresh(f"{code}print(json.dumps([k for k, v in matplotlib.rcParams.items() if v != before[k]]))") == []


def test_in_ipython_cells_draw_in_the_house_style():
    shell = "from IPython.core.interactiveshell import InteractiveShell\nInteractiveShell.instance()\n"
    code = f"{shell}import lib.notebook, matplotlib.pyplot as plt\n"
    given = "[plt.rcParams[k] for k in ('axes.grid', 'image.cmap', 'figure.dpi')]"
    colours = "plt.rcParams['axes.prop_cycle'].by_key()['color']"
    assert fresh(f"{code}print(json.dumps([*{given}, *{colours}]))") == [
        True, "gray", 110, "#0072B2", "#D55E00", "#CC79A7", "#1A1A1A", "#009E73",
    ]  # fmt: skip


def test_what_comes_late_is_there_all_the_same():
    code = "import lib.notebook\nmissing = set(lib.notebook.__all__) - set(dir(lib.notebook))\n"
    late = "from lib.notebook import Derivation, WrongStep, recording\nfrom lib.notebook import *\n"
    assert fresh(f"{code}{late}print(json.dumps([sorted(missing), Derivation.__module__]))") == [
        [],
        "lib.notebook.derivation",
    ]
    assert fresh("import lib.notebook\nprint(json.dumps(hasattr(lib.notebook, 'Derivatoin')))") is False
