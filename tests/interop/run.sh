#!/usr/bin/env bash
# Exchanges messages with other DIDComm libraries, in Rust and in Python; fails on any failure.
# Usage: tests/interop/run.sh [arguments of cargo test]
set -euo pipefail

cd "$(dirname "$0")"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
environments="$CARGO_TARGET_DIR/interop-python"

# Makes the environment $1 from python/requirements-$1.txt, again whenever that file changes.
prepare() {
  local home="$environments/$1" wanted="python/requirements-$1.txt"
  if ! cmp -s "$wanted" "$home/installed.txt"; then
    rm -rf "$home"
    python3 -m venv "$home"
    "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted"
    cp "$wanted" "$home/installed.txt"
  fi
}

prepare didcomm
prepare messaging
export EINMAL_INTEROP_PYTHON="$environments/didcomm/bin/python"
export EINMAL_INTEROP_MESSAGING_PYTHON="$environments/messaging/bin/python"

# The mediator that the quickstart of didcomm-messaging talks to.
cargo build --locked --package einmal --manifest-path ../../Cargo.toml
export EINMAL_BIN="$CARGO_TARGET_DIR/debug/einmal"

cargo test --locked "$@"
