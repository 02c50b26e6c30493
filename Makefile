# make setup    install everything into .venv (again only after setup.py or constraints.txt has changed)
# make demo     two customers, one after the other, through real NNI experiments (DATA=<folder>: on your images)
# make test     set-up, lint, all tests
# make quick    the tests of everyday work: no real experiments, no servers, no trainings
# make versions tests with the oldest and the newest allowed versions of what the package stands on
# make constraints  choose the newest allowed version of everything anew, and write constraints.txt
# make lint     ruff (rules and format) and mypy (strict), change nothing
# make format   ruff: rewrite the files in the project's format
# make platform  tables, version 0 and evidence made anew (SERVER="<folders>" CUSTOMERS="<folders>"; hours; see docs/version0.md)
# make clean    remove caches and build outputs;  make distclean  remove .venv too
#
# PYTHON=<interpreter> chooses the Python that .venv is made from, JOBS=<number> how many tests run side by side (3).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The same folder by its own name, see `place` below.
PHYSICAL = "$$(cd $(BIN) && pwd -P)"
STAMP := $(VENV)/.setup-done
JOBS ?= 3
QUICK := $(addprefix tests/,data metafeature protocol ranker recommendation spaces test_walls.py)

# nnictl and the trials it starts must be those of .venv.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick versions constraints platform lint format clean distclean

help:
	@sed -n -e '/^$$/q' -e 's/^# \{0,1\}//p' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)

$(STAMP): setup.py constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "Python was not found as '$(PYTHON)': install Python 3.10 to 3.13, or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(None if (3, 10) <= v[:2] <= (3, 13) else "NNI 3.0 and this package run on Python 3.10 to 3.13, but $(PYTHON) is %d.%d: name another one, for example make setup PYTHON=python3.11" % v[:2])'
	@echo "Installing into $(VENV): about 6 GB, most of it torch's CUDA libraries; this takes some minutes."
	@$(place)
	"$(PYTHON)" -m venv "$$(cd $(VENV) && pwd -P)"
	$(PHYSICAL)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[test]'
	@touch $@

# NNI starts its tuner by a shell line in which the interpreter's path is not quoted. Where this folder's name has a
# blank, or another sign that a shell would read, the environment lies elsewhere and .venv is a link to it.
define place
[ -d $(VENV) ] || { rm -f $(VENV); case "$(CURDIR)" in \
*[!A-Za-z0-9_./+@:,=-]*) \
    for home in "$${XDG_CACHE_HOME:-$$HOME/.cache}" /var/tmp; do \
        case "$$home" in *[!A-Za-z0-9_./+@:,=-]*) ;; *) break ;; esac; \
    done; \
    mkdir -p "$$home" && ln -s "$$(mktemp -d "$$home/nni_hyperfd-venv-XXXXXX")" $(VENV) ;; \
*) mkdir $(VENV) ;; \
esac; }
endef

# NNI's page would listen on all network interfaces, without a password.
demo test quick: export NODE_OPTIONS := --require "$(CURDIR)/examples/loopback_only.cjs"

demo: setup
	$(PHYSICAL)/python examples/demo.py $(if $(DATA),--data "$(DATA)")

# Three files at a time, each in a process of one thread: real experiments wait a good deal. They take longest, and come first.
test quick: export OMP_NUM_THREADS := 1
SIDE_BY_SIDE := -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: lint
	$(PHYSICAL)/python -m pytest $(SIDE_BY_SIDE)

quick: setup
	$(PHYSICAL)/python -m pytest $(SIDE_BY_SIDE) -x $(QUICK)

# The oldest and the newest allowed versions of what we stand on, an environment of 6 GB each: what was seen is in
# benchmarks/results/versions.md.
versions: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	$(BIN)/python benchmarks/versions.py

# Stopped at any moment, it goes on with the next call: ARGS="--minutes 120" stops by itself, --help says what else there is.
platform: export OMP_NUM_THREADS := 1
platform: setup
	@[ -n "$(SERVER)" ] && [ -n "$(CUSTOMERS)" ] || { echo 'Say where the images are: make platform SERVER="GROUPS WIDER200" CUSTOMERS="CATS THERMAL ..."' >&2; exit 1; }
	$(PHYSICAL)/python benchmarks/build_platform.py --server $(SERVER) --data $(CUSTOMERS) $(ARGS)

# One file for all Pythons and platforms; where versions differ, a line says for which.
constraints: setup
	$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	$(BIN)/uv pip compile setup.py --universal --python-version 3.10 --extra test --upgrade --no-header --no-annotate --output-file constraints.txt

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean
	[ ! -L $(VENV) ] || rm -rf "$$(cd $(VENV) && pwd -P)"
	rm -rf $(VENV)
