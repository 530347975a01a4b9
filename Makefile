# Two commands do everything on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEMO := runs/demo
DEMO_FILMS ?= 10000
DEMO_EPOCHS ?= $(shell sed -n 's/^  epochs: *//p' configs/demo.yaml)
BOXED_FILMS = $$(tail -n +2 $(DEMO)/release/BBox_List_2017.csv | cut -d, -f1 | uniq | head -n 24 \
	| sed 's|^|$(DEMO)/release/images_*/images/|')

.PHONY: help environment demo demo-student demo-comparison test lint format lock clean-demo

help:
	@echo "make demo         environment, a phantom release, a small teacher, a small CLARiTy with and without it, their"
	@echo "                  table and report ($(DEMO)/report.html); DEMO_EPOCHS=8 for a longer one"
	@echo "make test         environment, linters, types, import order, all tests"
	@echo "make format       format and fix what ruff can"
	@echo "make lock         write requirements/ anew from pyproject.toml"
	@echo "make clean-demo   remove $(DEMO)"

environment: $(READY)

$(READY): pyproject.toml requirements/dev.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python >= 3.11 is needed: make PYTHON=python3.12 ..."'
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $(READY)

demo: $(READY)
	$(BIN)/clarity phantom --out $(DEMO)/release --films $(DEMO_FILMS) --rarity 0.2 --processes 2
	$(BIN)/clarity check $(DEMO)/release --fast
	$(BIN)/clarity prepare $(DEMO)/release --out $(DEMO)/store --size 64 --film-check false
	$(BIN)/clarity train --config configs/teacher_demo.yaml --store $(DEMO)/store --out $(DEMO)/teacher/train
	$(BIN)/clarity distill dump --teacher $(DEMO)/teacher/train/best.safetensors --store $(DEMO)/store \
		--epochs $(DEMO_EPOCHS) --precision bfloat16 --out $(DEMO)/logits
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs 2 demo-student demo-comparison
	$(BIN)/clarity report $(DEMO) --out $(DEMO)

demo-student:
	$(BIN)/clarity train --config configs/demo.yaml --store $(DEMO)/store --distill $(DEMO)/logits --out $(DEMO)/train \
		--optimization.epochs $(DEMO_EPOCHS)
	$(BIN)/clarity calibrate $(DEMO)/train/best.safetensors --store $(DEMO)/store
	$(BIN)/clarity evaluate --checkpoint $(DEMO)/train/best.safetensors --store $(DEMO)/store --out $(DEMO)
	$(BIN)/clarity predict $(BOXED_FILMS) --checkpoint $(DEMO)/train/best.safetensors --release $(DEMO)/release \
		--operating-point youden --out $(DEMO)/predictions

# What the student is compared with, on the other core: itself on the labels alone, and its teacher. It writes to a log,
# for both to be readable.
demo-comparison:
	mkdir -p $(DEMO)/undistilled
	exec > $(DEMO)/undistilled/log.txt 2>&1; set -e; \
	$(BIN)/clarity train --config configs/demo.yaml --store $(DEMO)/store --out $(DEMO)/undistilled/train \
		--optimization.epochs $(DEMO_EPOCHS); \
	for run in undistilled teacher; do $(BIN)/clarity evaluate --checkpoint $(DEMO)/$$run/train/best.safetensors \
		--store $(DEMO)/store --out $(DEMO)/$$run; done

clean-demo:
	rm -rf $(DEMO)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command "make lock" pyproject.toml -o requirements/core.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
		--custom-compile-command "make lock" --all-extras pyproject.toml -o requirements/dev.txt
