#!/usr/bin/env bash
# Exchanges messages with other DIDComm libraries, in Rust and in Python, and lets wallets made of them and of the SDK
# of Identus use our mediator; fails on any failure. Needs a Rust toolchain and python3 with its venv module; node 20
# or later and npm for the wallets of Identus, which are skipped without.
# Usage: tests/interop/run.sh [arguments of cargo test]
set -euo pipefail

root="$(cd "$(dirname "$0")/../.." && pwd)"
# The caller's folder, which may be given relative to where the caller is, or the one at the root.
target="${CARGO_TARGET_DIR:-$root/target}"
mkdir -p "$target"
CARGO_TARGET_DIR="$(cd "$target" && pwd)"
export CARGO_TARGET_DIR
cd "$root/tests/interop"
environments="$CARGO_TARGET_DIR/interop-python"

# Makes the environment $1 from python/requirements-$1.txt, again whenever that file changes.
prepare() {
  local home="$environments/$1" wanted="python/requirements-$1.txt"
  if ! cmp -s "$wanted" "$home/installed.txt"; then
    # One chain: the status counts also where a caller asks for it.
    rm -rf "$home" && python3 -m venv "$home" \
      && "$home/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" \
      && cp "$wanted" "$home/installed.txt"
  fi
}

prepare didcomm
prepare messaging
export EINMAL_INTEROP_PYTHON="$environments/didcomm/bin/python"
export EINMAL_INTEROP_MESSAGING_PYTHON="$environments/messaging/bin/python"

# The packages of node/package-lock.json, again whenever that file changes. Their install scripts are not run.
packages="$CARGO_TARGET_DIR/interop-node"
prepare_node() {
  if ! cmp -s node/package-lock.json "$packages/installed.json"; then
    rm -rf "$packages" && mkdir -p "$packages" && cp node/package.json node/package-lock.json "$packages/" \
      && (cd "$packages" && npm ci --silent --ignore-scripts --no-audit --no-fund) \
      && cp node/package-lock.json "$packages/installed.json"
  fi
}

have_node() { [ "$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')" -ge 20 ] 2>/dev/null && command -v npm >/dev/null; }
if have_node; then
  prepare_node
  export EINMAL_INTEROP_NODE_PACKAGES="$packages/package.json"
else
  echo "note: node 20 or later and npm are not there; the wallets of Identus are skipped" >&2
fi

# The mediator that wallets talk to. Built at the root, whose settings differ from those of this folder.
(cd "$root" && cargo build --locked --package einmal)
export EINMAL_BIN="$CARGO_TARGET_DIR/debug/einmal"

cargo test --locked "$@"

# A libp2p host of another make. Its environment wants a C compiler on some machines; without it the test is skipped.
if prepare libp2p; then
  cd "$root"
  EINMAL_INTEROP_LIBP2P_PYTHON="$environments/libp2p/bin/python" \
    cargo test --locked --package einmal-tests --test ways a_host_of_another_make
else
  echo "note: the libp2p environment could not be made; its test is skipped" >&2
fi
