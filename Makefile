# Two commands do everything on a fresh machine: `make demo` and `make test`. Each installs what it needs into .venv first.

PYTHON ?= python3
TEST_ARGS ?=
BENCH ?=
# What is exported is run, plans are built, and peers are compared with, wherever the tests are; types are checked with
# what those bring.
CHECKS = .venv/installed-dev,onnx,rtx,bench
INSTALL = .venv/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable

# Everything here runs on what is in the repository; no model is ever downloaded.
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types format bench evidence zoo docs clean

help:
	@echo "make demo      sample with the shipped model, uncached and cached, and write demo_output/"
	@echo "make test      run the test suite; TEST_ARGS='-k capture' narrows it"
	@echo "make test-all  run the exhaustive tests, too, which repeat cheaper ones at more length"
	@echo "make lint      check style and formatting"
	@echo "make types     check types"
	@echo "make format    rewrite the sources as the formatter wants them"
	@echo "make bench     measure, and write benchmarks/results/; BENCH='loop step_cost' measures those two"
	@echo "make evidence  measure what Fourier does for caching, and write docs/evidence.md"
	@echo "make zoo       try every denoiser of diffusers, and write docs/zoo.md"
	@echo "make docs      build docs/_build/ and run the examples in it"
	@echo "make clean     remove .venv and all that was built"

demo: .venv/installed-onnx,rtx
	.venv/bin/fouriercache demo --out demo_output

# Capturing models is most of the tests' time and runs on one core, so two processes with a thread each share the files.
test test-all: export OMP_NUM_THREADS ?= 1
# torch keeps fake values of calls, which pays where a model has many blocks; those of the tests are captured faster
# without. `make test-all` leaves that on.
test: export TORCH_FAKE_TENSOR_DISPATCH_CACHE ?= 0
test: $(CHECKS)
	.venv/bin/python -m pytest -n 2 --dist loadfile -m "not exhaustive" $(TEST_ARGS)

test-all: $(CHECKS)
	.venv/bin/python -m pytest -n 2 --dist loadfile $(TEST_ARGS)

lint: $(CHECKS)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(CHECKS)
	.venv/bin/mypy

format: $(CHECKS)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# The table of docs/zoo.md: every transformer denoiser of diffusers. ZOO_ARGS="--only WanTransformer3DModel" measures one.
zoo: .venv/installed-dev
	.venv/bin/python benchmarks/zoo.py $(ZOO_ARGS)

# All that needs no GPU, or those that are named: make bench BENCH="loop step_cost". `.venv/bin/python benchmarks --list`
# says what there is and how long each takes. That of a GPU is run by name, where there is one: see docs/gpu.md.
bench: .venv/installed-bench
	.venv/bin/python benchmarks $(BENCH)

# An hour of one core when nothing is kept from an earlier run in runs/evidence.
evidence: .venv/installed-dev
	PYTHONPATH=benchmarks .venv/bin/python -m hypotheses

docs: .venv/installed-docs
	.venv/bin/sphinx-build -W --keep-going -b html docs docs/_build/html
	.venv/bin/sphinx-build -W -b doctest docs docs/_build/doctest

clean:
	rm -rf .venv .nox .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist demo_output docs/_build

.venv/bin/python:
	$(PYTHON) -m venv .venv

# One stamp for each set of packages: what the demo needs is less than what the tests need.
.venv/installed-%: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) ".[$*]"
	@touch $@
