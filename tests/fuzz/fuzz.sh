#!/bin/sh
# Fuzzes one target: ./fuzz.sh parse 10000000 [more options of libFuzzer]
set -eu
cd "$(dirname "$0")"
target=$1
runs=$2
shift 2
corpus=corpus/$target
mkdir -p "$corpus" artifacts
number=0
for image in t5 switch bart bytes palm; do
    file=../fixtures/tiny/$image.palm
    # The ways an input can be read: src/lib.rs.
    { printf '\000'; cat "$file"; } >"$corpus/$image-as-it-is"
    { printf '\001'; cat "$file"; } >"$corpus/$image-repaired"
    printf "\\002\\00$number" >"$corpus/$image-patches"
    number=$((number + 1))
done
# What libFuzzer wants to know of the code. A target, so that build scripts are left as they are.
export RUSTFLAGS="-Cpasses=sancov-module -Ccodegen-units=1 -Cllvm-args=-sanitizer-coverage-level=4 \
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
 -Cllvm-args=-sanitizer-coverage-trace-compares"
host=$(rustc -vV | sed -n 's/^host: //p')
exec cargo run --release --target "$host" --bin "$target" -- "$corpus" \
    -runs="$runs" -max_len=12288 -artifact_prefix=artifacts/ -print_final_stats=1 "$@"
