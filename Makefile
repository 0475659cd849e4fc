# SPDX-License-Identifier: Apache-2.0
# The door to the build: `make` builds, `make demo` shows, `make test` proves, `make check` keeps
# the house in order. CMake does the work underneath.
JOBS ?= $(shell nproc)
B ?= build
CMAKE_FLAGS ?=
MAKEFLAGS += --no-print-directory

.PHONY: all deps demo test check format bench fuzz soak clean install

all: deps
	@cmake -S . -B $(B) $(CMAKE_FLAGS) >/dev/null
	@cmake --build $(B) -j $(JOBS) --target drover

# Installs what is missing, and nothing when all is there.
deps:
	@tools/deps.sh build

install: all
	cmake --install $(B)

demo: all
	@tools/deps.sh demo
	@cmake --build $(B) -j $(JOBS) --target drover-sample
	@tests/e2e/demo.sh $(B)

test:
	@tools/deps.sh build test
	@tests/run.sh

check:
	@tools/deps.sh build test check
	@tools/check.sh

format:
	@clang-format -i $$(git ls-files --cached --others --exclude-standard '*.c' '*.h')

bench:
	@tools/deps.sh build test bench
	@bench/run.sh

fuzz:
	@tools/deps.sh build test check
	@tests/fuzz/run.sh 600

soak:
	@tools/deps.sh build test demo check
	@CHECK_STATES=225000 tools/check.sh
	@tests/run.sh soak

clean:
	rm -rf build
