# `make siege` runs the contest, `make test` every test; both set up what they need in .venv.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= siege-out
ARGS   ?=
DATA   ?= data
# Benchmarks of a minute or less that need no data.
SHORT  := api_bodies distill_questions fold_stages guard_decide guard_reading record
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help bench-ask bench-copy bench-train example siege siege-quick test test-quick test-wheel lint format bench bench-record \
  bench-detect bench-detect-speed bench-detect-window bench-guard conformance test-litellm clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Stillwatch with torch (a minute or more, once)"
	$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Stillwatch with torch and the test tools (a minute or more, once)"
	$(PIP) --editable '.[train,trl,stamp,postgres,redis,spark,otel,dev]'
	@touch $@ $(VENV)/.run

siege: $(VENV)/.run  ## the contest on loopback; ends in siege-out/moat.html
	$(BIN)/stillwatch siege --out $(OUT) $(ARGS)

siege-quick: $(VENV)/.run  ## a smaller contest
	$(BIN)/stillwatch siege --quick --out $(OUT) $(ARGS)

example: $(VENV)/.run  ## distil the house skills teacher on loopback; ends in house-skills-out/curve.html
	$(BIN)/python examples/house-skills/run.py $(ARGS)

test: $(VENV)/.dev  ## every test
	$(PYTEST) $(ARGS)

test-quick: $(VENV)/.dev  ## the tests that train nothing
	$(PYTEST) -m 'not slow and not browser' $(ARGS)

test-wheel: $(VENV)/.dev  ## the built wheel: is everything in it, and do the command line and the pages run from it
	rm -rf build/wheel dist
	$(BIN)/python -m build --wheel --outdir dist . > /dev/null
	$(PIP) --no-deps --target build/wheel dist/*.whl
	STILLWATCH_FROM=$(CURDIR)/build/wheel PYTHONPATH=$(CURDIR)/build/wheel \
	  $(PYTEST) -m 'not slow and not browser' \
	  tests/test_wheel.py tests/unit/cli tests/unit/report tests/unit/logs tests/unit/guard/test_gateway.py $(ARGS)

# LiteLLM's proxy has an environment of its own: its pins are not ours.
build/litellm/.stillwatch: pyproject.toml
	test -x build/litellm/bin/python || $(PYTHON) -m venv build/litellm
	build/litellm/bin/python -m pip --disable-pip-version-check install --quiet --editable '.[litellm]'
	@touch $@

test-litellm: $(VENV)/.dev build/litellm/.stillwatch  ## the plug-in and the endpoint inside a real LiteLLM proxy
	STILLWATCH_LITELLM=$(CURDIR)/build/litellm/bin/python $(BIN)/python -m pytest tests/foreign $(ARGS)

lint: $(VENV)/.dev  ## ruff, mypy and the direction of imports
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev  ## let ruff rewrite the layout
	$(BIN)/ruff format src tests bench
	$(BIN)/ruff check --fix src tests bench

bench: $(VENV)/.dev  ## the short measurements behind LOG.md
	@for script in $(SHORT); do echo "== bench/$$script.py"; $(BIN)/python bench/$$script.py || exit 1; done

bench-record: $(VENV)/.dev  ## a million LiteLLM lines beside Polars' and pyarrow's plain readers
	$(BIN)/python bench/record_litellm.py $(ARGS)

bench-detect: $(VENV)/.dev  ## webs in honest traffic beside four baselines; needs DATA=folder
	$(BIN)/python bench/detect_campaigns.py --data $(DATA) $(ARGS)

bench-detect-speed: $(VENV)/.dev  ## rate, memory and growth of detect beside MinHash and exact MMD
	$(PIP) --editable '.[bench]'
	$(BIN)/python bench/detect_speed.py $(ARGS)

bench-detect-window: $(VENV)/.dev  ## the published window test's protocol; needs DATA=folder
	$(BIN)/python bench/detect_window.py --data $(DATA) $(ARGS)

bench-ask: $(VENV)/.run  ## asking beside distilabel and curator, in environments of their own
	$(BIN)/python bench/distill_ask.py $(ARGS)

bench-copy: $(VENV)/.run  ## copy curves of real tasks; needs DATA=folder
	$(BIN)/python bench/distill_real.py --data $(DATA) $(ARGS)

bench-guard: $(VENV)/.dev  ## the gateway beside LiteLLM's proxy, in an environment of its own
	$(BIN)/python bench/guard_bench.py --make-env build/litellm $(ARGS)

conformance: $(VENV)/.dev  ## the SDKs' own test-suites through the gateway; needs npm, makes its environments
	$(BIN)/python bench/guard_conformance.py $(ARGS)

bench-train: $(VENV)/.dev  ## training beside TRL's trainer
	$(BIN)/python bench/distill_train.py $(ARGS)

clean:  ## remove what this Makefile made
	rm -rf $(VENV) build dist
