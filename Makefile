# Everything here needs only make and a Python of 3.10 or newer; the rest goes into .venv and
# into edgepipe's own cache. pip's settings (PIP_INDEX_URL, PIP_FIND_LINKS, ...) are respected.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
DEMO_TOOLCHAINS := keras onnx2tf edge
TOOLCHAINS := keras torch onnx2tf onnx2tf-tensorflow litert-torch edge openvino vela tflite-micro coco
ifneq ($(shell uname -sm),Linux x86_64)
override TOOLCHAINS := $(filter-out tflite-micro,$(TOOLCHAINS)) # it has wheels for nothing else
endif
PACKAGES := edgepipe converters quantization device_tests
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint format stress fuzz bench latency zoo zoo-int8 openvino-zoo edgetpu-legal emulated ethosu models accuracy clean environment remake

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: environment ## convert the Keras example to TFLite and print where the report is
	$(BIN)/edgepipe toolchain install $(DEMO_TOOLCHAINS)
	$(BIN)/edgepipe convert examples/digits_keras/digits.h5 --target tflite --precision float32 -o out/digits
	@echo "report: $(CURDIR)/out/digits/report.json"

test: $(VENV)/dev.stamp ## install all toolchains and run the tests (PYTEST_ARGS adds arguments)
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

stress: $(VENV)/dev.stamp ## run the long tests: kill -9 at many moments, many processes at once
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python -m pytest -m stress $(PYTEST_ARGS)

fuzz: $(VENV)/dev.stamp ## read 10,000 damaged TFLite and compiled files (FUZZ=N as many)
	FUZZ=$(or $(FUZZ),10000) $(BIN)/python -m pytest tests/test_tflite_fuzz.py tests/test_edgetpu_inspect.py tests/test_edgetpu_fuzz.py tests/test_ethosu_preflight.py $(PYTEST_ARGS)

lint: $(VENV)/dev.stamp ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## put the code into ruff's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: environment ## measure the ratios that edgepipe promises
	$(BIN)/edgepipe toolchain install $(DEMO_TOOLCHAINS)
	$(BIN)/python benchmarks/tflite_graph.py
	$(BIN)/python benchmarks/calibration.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/bench.py

latency: environment ## run the latency gate under load: false alarms and misses (RUNS=50)
	$(BIN)/edgepipe toolchain install edge
	$(BIN)/python benchmarks/latency_gate.py --runs $(or $(RUNS),50)

zoo: environment ## convert the networks of keras.applications and timm, as a table
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/zoo.py

zoo-int8: environment ## quantize the same networks to int8, beside the raw tools
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/zoo_int8.py

openvino-zoo: environment ## quantize the zoo for OpenVINO, beside NNCF's plain result
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/openvino_zoo.py

emulated: environment ## run the zoo's MobileNetV2 on emulated Arms, beside this machine
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/emulated.py

ethosu: environment ## compile the zoo for three Ethos-U configurations, as a table
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/ethosu.py

edgetpu-legal: environment ## convert the networks for the Edge TPU, foretell their mapping
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/edgetpu_legal.py $(if $(TRAINED),--trained $(TRAINED))

models: environment ## convert real models, unzipped wheels in MODELS=FOLDER (PRECISION=int8 TARGET=openvino)
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/models.py $(or $(MODELS),out/models) --precision $(or $(PRECISION),float32) --target $(or $(TARGET),tflite)

accuracy: environment ## what int8 costs trained models, with the packages in MODELS=FOLDER
	$(BIN)/edgepipe toolchain install $(TOOLCHAINS)
	$(BIN)/python benchmarks/accuracy.py $(or $(MODELS),out/models)

clean: ## remove .venv and everything made in the checkout; toolchains and results stay in the cache
	rm -rf $(VENV) out build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

environment: $(VENV)/core.stamp

# An environment is made again when its Python no longer runs, or when the checkout was moved:
# the scripts in it name their interpreter by its full path.
usable := $(shell [ "$$(cat $(VENV)/made.stamp 2>/dev/null)" = "$(CURDIR)" ] && \
	$(BIN)/python -m pip --version >/dev/null 2>&1 && echo yes)
ifneq ($(usable),yes)
$(VENV)/made.stamp: remake
endif

# A python3 on the PATH may be a shim that runs nothing, so each candidate is tried.
$(VENV)/made.stamp:
	@rm -rf $(VENV)
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10 python; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$python" -c 'import sys; print(sys.executable)')"; \
	    "$$python" -m venv $(VENV) && exit 0; \
	    echo "that Python can't make environments; on Debian: apt install python3-venv" >&2; \
	    rm -rf $(VENV); \
	  fi; \
	done; \
	echo "no Python of 3.10 or newer that can make an environment; name one: make PYTHON=..." >&2; \
	exit 1
	@printf '%s' "$(CURDIR)" > $@

$(VENV)/core.stamp: $(VENV)/made.stamp pyproject.toml
	$(BIN)/python -m pip install --quiet --editable . uv
	$(BIN)/python -m compileall -q $(PACKAGES) # as pip does with what it copies
	@touch $@

$(VENV)/dev.stamp: $(VENV)/core.stamp
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@
