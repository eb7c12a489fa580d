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
for image in t5 switch bart bytes; do
    file=../fixtures/tiny/$image.palm
    # The ways an input can be read: src/lib.rs.
    { printf '\000'; cat "$file"; } >"$corpus/$image-as-it-is"
    { printf '\001'; cat "$file"; } >"$corpus/$image-repaired"
    printf "\\002\\00$number" >"$corpus/$image-patches"
    number=$((number + 1))
done
exec cargo +nightly run --release --bin "$target" -- "$corpus" \
    -runs="$runs" -max_len=12000 -artifact_prefix=artifacts/ -print_final_stats=1 "$@"
