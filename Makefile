# Two commands do everything on a fresh clone: `make demo` and `make test`.
PYTHON ?= python3.12
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := models samplers posteriordb_adapter benchmarks
STAMP := $(VENV)/.installed

.PHONY: demo test lint install clean

demo: install
	$(BIN)/essper compare --seeds 2 --out results/demo

test: install
	$(BIN)/pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	mkdir -p $(VENV)/essper-links/essper  # the type checker cannot follow the editable install's finder
	for p in $(PACKAGES); do ln -sfn ../../../$$p $(VENV)/essper-links/essper/$$p; done
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
