# Everything a newcomer needs. STACK=twin (default) is the simulated lab, STACK=homelab the real one.
STACK ?= twin
ARGS ?=
PYTHON ?= python3
WORKERS ?= 2
BIN := .venv/bin
# A file a worker, in the order of their names: sorted by their number of tests, the few long ones would come last.
PYTEST := $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
LAB := --stack $(STACK)
SURE := $(if $(filter 1 yes true,$(YES)),--yes)
TO_PULUMI := $(if $(ARGS),-- $(ARGS))

ifeq ($(MAKECMDGOALS)$(TARGET),destroy-target)
$(error which node? make destroy-target TARGET=node3)
endif

ifeq ($(MAKECMDGOALS)$(FILE),restore)
$(error from what? make restore FILE=.homelab/$(STACK)/backups/etcd-...db)
endif

ifeq ($(MAKECMDGOALS)$(FOLDER),mirror)
$(error where to? make mirror FOLDER=/srv/charts)
endif

.DEFAULT_GOAL := help
.PHONY: help up preview destroy destroy-target refresh status watch report doctor backup restore mirror down bench test test-full lint lock tools-up tools-test

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "STACK=name chooses the lab (twin), YES=1 answers every question, ARGS='...' goes on to pulumi or pytest."

up: tools-up ## make the lab what its settings say
	@$(BIN)/homelab up $(LAB) $(SURE) $(TO_PULUMI)

preview: tools-up ## show what `up` would change
	@$(BIN)/homelab preview $(LAB) $(TO_PULUMI)

destroy: tools-up ## take the cluster down and give the boards back
	@$(BIN)/homelab destroy $(LAB) $(SURE) $(TO_PULUMI)

destroy-target: tools-up ## take one node out, nothing else: TARGET=node3
	@$(BIN)/homelab destroy-target $(TARGET) $(LAB) $(SURE) $(TO_PULUMI)

refresh: tools-up ## read the lab back into the recorded state
	@$(BIN)/homelab refresh $(LAB) $(SURE) $(TO_PULUMI)

status: tools-up ## what every board, node and server is doing
	@$(BIN)/homelab status $(LAB) $(ARGS)

watch: tools-up ## the same live, until Ctrl-C
	@$(BIN)/homelab watch $(LAB) $(ARGS)

report: tools-up ## one HTML page of the lab: FILE=... says where to
	@$(BIN)/homelab report $(FILE) $(LAB) $(ARGS)

doctor: tools-up ## look for what is missing or wrong on this machine
	@$(BIN)/homelab doctor $(LAB) $(ARGS)

backup: tools-up ## take a snapshot of etcd now: FILE=... says where to
	@$(BIN)/homelab backup $(FILE) $(LAB) $(ARGS)

restore: tools-up ## bring the control plane back from a snapshot: FILE=...
	@$(BIN)/homelab restore $(FILE) $(LAB) $(SURE) $(ARGS)

mirror: tools-up ## collect the charts and the list of images: FOLDER=...
	@$(BIN)/homelab mirror $(FOLDER) $(LAB) $(ARGS)

down: tools-up ## end the simulated lab: processes, disks and recorded state
	@$(BIN)/homelab down $(LAB) $(SURE)

bench: tools-test ## measure the simulated lab
	@$(BIN)/homelab bench $(TO_PULUMI)

test: tools-test ## all tests but the minutes-long ones
	@$(PYTEST) -m "not slow" $(ARGS)

test-full: tools-test ## all tests
	@$(PYTEST) $(ARGS)

lint: tools-test ## style, types and locks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/python -m tools.locks

lock: tools-test ## write the requirement locks anew from their .in files
	@$(BIN)/python -m tools.locks write

tools-up:
	@$(PYTHON) tools/install.py up

tools-test:
	@$(PYTHON) tools/install.py test
