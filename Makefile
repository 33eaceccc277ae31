# Everything runs from here. Needed beforehand: Python 3.11 or newer, make, git. `make help` lists the commands.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
CELL_SECONDS := 1800
# `make check` does not open a page again that passed and is as it was; `make test` opens all, from disk too.
WHICH := --changed -m "not slow"

# What is given on the command line reaches the shell as it was typed: unexpanded, and as variables of its environment.
override URL := $(value URL)
override CHAPTER := $(value CHAPTER)
override FORCE := $(value FORCE)
override PAGE := $(value PAGE)
export URL CHAPTER FORCE PAGE

.DEFAULT_GOAL := help
.PHONY: help book test check execute photographs serve clean repository

help: ## Say what each command does
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(INSTALLED): requirements.txt pyproject.toml lib/__init__.py
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt --editable .
	$(BIN)/pip check
	@touch $@

# Sphinx gives the warnings of a page only when it reads that page, and writes the sidebar only into pages it writes.
# So a build is built upon only if it ended well, with the same settings and assets: else `ready` is missing or old.
_build/ready: _config.yml _toc.yml $(wildcard book/assets/*) $(INSTALLED)
	rm -rf _build/html _build/.doctrees
	@mkdir -p _build && touch $@

book: _build/ready ## Build the pages from the stored outputs, check them, say which file to open
	@mv _build/ready _build/unfinished
	$(BIN)/jupyter-book build --nitpick --warningiserror --keep-going --quiet .
	$(BIN)/python -m lib.publishing.pages
	@mv _build/unfinished _build/ready

check: $(INSTALLED) ## Every quick check, without running the notebooks again: for everyday work
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m lib.publishing.execute --check
	$(BIN)/python -m tests.html.browser
	$(PYTEST) tests -m "not slow" --ignore tests/html --ignore tests/chapters --ignore tests/checks
	@rm -f _build/ready
	@$(MAKE) --no-print-directory book
	$(PYTEST) tests/html $(WHICH)

test: WHICH :=
test: check ## Every check: also the slow ones, the checks of the checks, and every notebook from top to bottom
	$(PYTEST) tests -m slow --ignore tests/html
	$(PYTEST) --dist worksteal tests/checks tests/chapters
	BOOK_FINDINGS_MUST_HOLD=1 $(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=$(CELL_SECONDS) book

execute: $(INSTALLED) ## Run again the notebooks whose stored outputs are stale (CHAPTER=vae: one, FORCE=1: fresh ones too)
	$(BIN)/python -m lib.publishing.execute $${CHAPTER:+--chapter "$$CHAPTER"} $${FORCE:+--force}

photographs: book ## Take pictures of the pages in light, in dark and as wide as a phone (PAGE=book/index: one)
	$(BIN)/python -m tests.html.photographs $${PAGE:+"$$PAGE"}

serve: book ## Build the pages and serve them at http://127.0.0.1:8000/
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

repository: $(INSTALLED) ## Set the repository's address everywhere (URL=https://github.com/OWNER/NAME)
	$(BIN)/python -m lib.publishing.repository "$$URL"
	@$(MAKE) --no-print-directory $(INSTALLED)

clean: ## Remove what was built; the environment in .venv stays
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache *.egg-info
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
