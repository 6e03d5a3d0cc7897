#!/bin/sh
# Builds and runs every benchmark of einmal and prints the tables of docs/benchmarks.md in their order.
#
#   benches/run.sh [FOLDER]     FOLDER (default: a temporary one) decides which disk the store is measured on
#
# Progress goes to standard error, the tables to standard output. Takes about two minutes once built.
set -eu
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/target}
programs=$(mktemp -d)
trap 'rm -rf "$programs"' EXIT

build() { # build PACKAGE PROGRAM BACKEND
    features=
    if [ "$3" = aws-lc ]; then features="--features aws-lc"; fi
    # shellcheck disable=SC2086
    CARGO_TARGET_DIR=$target cargo build --locked --release -p "$1" $features >&2
    cp "$target/release/$2" "$programs/$2-$3"
}

for backend in portable aws-lc; do
    build bench-envelope envelope "$backend"
    build bench-credentials credentials "$backend"
    build bench-credentials-ssi credentials-ssi "$backend"
done
build bench-store store portable

echo "$(grep -m 1 'model name' /proc/cpuinfo 2>/dev/null | cut -d: -f2 | sed 's/^ *//' || true), $(nproc) cores, $(uname -sr), $(rustc --version), load $(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown) at the start, $(date -u +%F)"
for program in envelope credentials credentials-ssi; do
    for backend in portable aws-lc; do
        echo "running $program, $backend" >&2
        echo
        "$programs/$program-$backend"
    done
done
echo "running store" >&2
echo
echo "**Durable 1 KiB writes**"
echo
"$programs/store-portable" "${1:-${TMPDIR:-/tmp}}" 5 | awk '
    NR == 1 { print "| | writes/s | median ms | p99 ms | batches per flush |"; print "|---|---:|---:|---:|---:|"; next }
    {
        n = NF; what = $1
        for (i = 2; i <= n - 4; i++) what = what " " $i
        printf "| %s | %s | %s | %s | %s |\n", what, $(n - 3), $(n - 2), $(n - 1), $n
    }'
