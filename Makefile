# make demo: set up and run the main job on the embedded network. make test: set up and test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all lint docs fuzz bench reports clean

demo: $(STAMP)
	$(BIN)/chipfit run

test: $(STAMP) lint
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

test-all: $(STAMP) lint
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

# fast models against their references on random cases, on all cores; a case on which they differ
# becomes a test in tests/regressions
SECONDS ?= 60
SEED ?= 0
fuzz: $(STAMP)
	$(BIN)/python -m analysis.fuzz --seconds $(SECONDS) --seed $(SEED)

bench: $(STAMP)
	$(BIN)/python -m benchmarks -o reports/benchmarks.md

# the committed reports that need neither trained weights and images nor another simulator, nor
# state a time; every report names its own command
reports: $(STAMP)
	$(BIN)/python -m analysis.reports.eyeriss_validation
	$(BIN)/python -m analysis.reports.torchvision_models
	$(BIN)/python -m analysis.reports.width_rules
	$(BIN)/python -m analysis.reports.curves_validation
	$(BIN)/python -m analysis.reports.picture
	$(BIN)/python -m analysis.reports.rtl --cases 25
	$(BIN)/chipfit speedup resnet18 resnet34 resnet50 mobilenet_v2 --on tpu_v1 scalesim_google scalesim_eyeriss \
		--batch 1 4 16 --bits 4 2 --average 4 3 2 --fit --latency-share 90% 70% --workers 2 -o runs/speedup_systolic
	$(BIN)/chipfit speedup resnet18 resnet34 resnet50 mobilenet_v2 --on eyeriss_v1 --batch 1 \
		--bits 4 2 --average 4 3 2 --fit --latency-share 90% --baseline W8A8 native --workers 2 -o runs/speedup_eyeriss
	$(BIN)/chipfit speedup resnet18 resnet34 resnet50 mobilenet_v2 --on eyeriss_v1 \
		--batch 4 16 --bits 4 2 --average 4 --baseline W8A8 native --workers 3 -o runs/speedup_batches
	$(BIN)/python -m analysis.reports.speedup runs/speedup_systolic runs/speedup_eyeriss runs/speedup_batches

# torch is pinned in constraints.txt: unpinned, pip resolves the CUDA build of several gigabytes
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "chipfit needs Python 3.11 or newer; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo 'installing into $(VENV), about 2 GB: some minutes, in silence'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
