# Everything starts from here; each target sets up .venv first if need be.
#   make demo     PixelPick against random pixels on built-in scenes, with plots and a report
#   make demo-classbal, make demo-adaptive-superpixel, ...: any other recipe on the same scenes
#   make test     the tests of minutes          make check   format, lint, types, these tests
#   make test-slow          the others: commands killed and run again, the page in a browser, whole recipes
#   make docs     docs/reference, docs/reproduce.md and the table of commands in README.md, generated from the code
#   make leaderboard MINUTES=60   recipes against their random partners over three seeds on CamVid: go on for an hour,
#                 then add what is finished to docs/results/leaderboard.md
#   make bench    speed and memory, written to docs/benchmarks.md
#   make test-published   every row of the published tables at its own image size, cut short
#   make test-cluster     an experiment on a real Slurm of one node, which it starts
#   make estimate         measure the training steps of rows that have no estimate yet (docs/reproduce.md)
#   make screenshots      renew the pictures of the page in docs/images, with Chromium
#   make soak     whole runs disturbed for 30 minutes, written to docs/reliability.md

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
# Two tests at a time; a file's tests stay together, since they share what took long to make.
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist loadfile

.PHONY: demo test test-slow test-published test-cluster check docs leaderboard bench estimate screenshots soak clean
# A dataset is whole as soon as it exists: make must not delete it when it is interrupted after that.
.PRECIOUS: $(DEMO)/scenes.h5

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "alseg needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 2; }
	@echo "setting up .venv (torch is large: the first time takes a while)"
	@if uv --version >/dev/null 2>&1; then \
	  uv venv -q --allow-existing --python $(PYTHON) .venv && \
	  uv pip install -q --python .venv/bin/python --compile-bytecode -c constraints.txt -e '.[dev]'; \
	else \
	  $(PYTHON) -m venv .venv && .venv/bin/python -m pip install -q -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

demo: $(DEMO)/scenes.h5
	@$(BIN)/alseg plan pixelpick random-pixels $(DEMO)/scenes.h5 --full full --profile scenes --run $(DEMO) -o $(DEMO)/demo.mk
	@$(RUN_PLAN) -j2 -f $(DEMO)/demo.mk
	@$(BIN)/alseg inspect $(DEMO)/pixelpick/round-2/annotations.h5 --dataset $(DEMO)/scenes.h5 \
	  --png $(DEMO)/picked-pixels.png
	@echo
	@echo "Open     $(DEMO)/report.html        everything on one page: curves, classes, cost, images, provenance"
	@echo "         $(DEMO)/curve.png          mIoU over clicks, with full supervision as the upper bound"
	@echo "         $(DEMO)/picked-pixels.png  the pixels queried in one scene, in the colour of their class"
	@echo "         $(DEMO)/demo.mk            all runs as a Makefile; delete any file it made and run it again"
	@echo "Next     .venv/bin/alseg inspect $(DEMO)/pixelpick/round-2/annotations.h5"
	@echo "         docs/how-to/own-data.md    use your own images"

$(DEMO)/scenes.h5: $(READY)
	@mkdir -p $(DEMO)
	@$(BIN)/alseg prepare scenes -o $@
	@touch -c $@

# Two stages at a time with one thread each make better use of two cores than one stage with two threads.
RUN_PLAN := MAKEFLAGS= OMP_NUM_THREADS=1 make --no-print-directory -s ALSEG=$(BIN)/alseg

demo-%: $(DEMO)/scenes.h5
	@$(BIN)/alseg plan $* $(DEMO)/scenes.h5 --profile scenes --run $(DEMO)/$* -o $(DEMO)/$*.mk
	@$(RUN_PLAN) -f $(DEMO)/$*.mk

# Stages that are stopped when the time is over go on the next time, and what is finished by then is added.
BOARD := runs/leaderboard
BOARD_RECIPES := alseg alseg-random pixelpick random-pixels full classbal classbal-random classbal-uncertainty oracle-superpixel \
  adaptive-superpixel multi-class-query multi-class-query-random rectangles rectangles-random madbal madbal-random \
  als4gan als4gan-diverse s4gan-random als4gan-supervised random-images \
  pixelpick-stratified pixelpick-diverse pixelpick-void-aware pixelpick-neighbours pixelpick-teacher pixelpick-warm \
  regions-max classbal-neighbours adaptive-superpixel-teacher multi-class-query-teacher \
  multi-class-query-seconds fixmatch-images
BOARD_SEEDS := 0 1 2
BOARD_OPTIONS ?=
CAMVID ?= camvid
MINUTES ?= 480
JOBS ?= $(shell nproc)
comma := ,
empty :=

leaderboard: $(BOARD)/camvid.h5
	@$(BIN)/alseg plan $(BOARD_RECIPES) $< --seeds $(subst $(empty) $(empty),$(comma),$(BOARD_SEEDS)) --profile camvid-cpu \
	  --run $(BOARD) $(BOARD_OPTIONS) -o $(BOARD)/all.mk
	@timeout $(MINUTES)m nice env $(RUN_PLAN) -k -j$(JOBS) -f $(BOARD)/all.mk \
	  $(foreach seed,$(BOARD_SEEDS),$(addsuffix -$(seed),$(BOARD_RECIPES))) || echo "Not finished. Run make again to go on."
	@$(BIN)/alseg compare --leaderboard docs/results/leaderboard.json \
	  $$(ls $(BOARD)/*/evaluation.h5 $(BOARD)/*/round-*/evaluation.h5 2>/dev/null | cut -d / -f 1-3 | sort -u)

$(BOARD)/camvid.h5: $(READY)
	@mkdir -p $(BOARD)
	@$(BIN)/alseg prepare camvid --root $(CAMVID) --download --long-side 192 --every 2 -o $@
	@touch -c $@

test: $(READY)
	$(PYTEST) -m "not slow and not published and not cluster"

test-slow: $(READY)
	$(PYTEST) -m "slow and not published and not cluster"

# Starts a Slurm of one node, as root; snakemake is looked for in ALSEG_SNAKEMAKE and on the path
test-cluster: $(READY)
	$(BIN)/python -m pytest -q -m cluster tests/cluster

# Rows of 2-megapixel images take up to 12 GiB each, so one at a time; ROWS="and not slow" leaves out those of minutes
test-published: $(READY)
	$(BIN)/python -m pytest -q -m "published $(ROWS)" tests/published

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

docs: $(READY)
	$(BIN)/python -m tests.reference

bench: $(READY)
	$(BIN)/python -m tests.bench

estimate: $(READY)
	$(BIN)/python -m tests.published
	$(BIN)/python -m tests.reference

screenshots: $(READY)
	$(BIN)/python tests/browser/screenshots.py

soak: $(READY)
	$(BIN)/python -m tests.soak

clean:
	rm -rf runs build dist
