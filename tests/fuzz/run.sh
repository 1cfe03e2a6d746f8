#!/bin/sh
#
# run.sh - fuzz init's decoder, all of init with a kernel that is made up, and the way of a configuration to a plan.
#
# usage: run.sh SECONDS [PYTHON]
#
# A third of the time each. Fails on any finding, and says where the input is.
# PYTHON has ocirt installed (default: .venv/bin/python, else python3). Needs clang with its fuzzer
# library (Debian: apt-get install clang libclang-rt-14-dev) and gcc.
set -eu
[ $# -ge 1 ] || { sed -n '3,10s/^# \{0,1\}//p' "$0"; exit 2; }
third=$(($1 / 3 > 0 ? $1 / 3 : 1))
here=$(cd "$(dirname "$0")" && pwd)
python=${2:-$here/../../.venv/bin/python}
[ -x "$python" ] || python=python3
work=${FUZZ_WORK:-$(mktemp -d)}
mkdir -p "$work"

"$python" "$here/corpus.py" "$work/seeds"
for target in fuzz_decode fuzz_init; do
    clang -std=c11 -Wall -Wextra -Werror -g -O1 -fno-sanitize-recover=all \
        -fsanitize=fuzzer,address,undefined -o "$work/$target" "$here/$target.c"
    mkdir -p "$work/corpus-$target"
    if ! ASAN_OPTIONS=detect_leaks=0 "$work/$target" -max_total_time="$third" -max_len=131072 -timeout=5 \
        -print_final_stats=1 -verbosity=1 -artifact_prefix="$work/" "$work/corpus-$target" "$work/seeds" \
        >"$work/log" 2>&1; then
        tail -50 "$work/log"
        echo "run.sh: $target has a finding in $work" >&2
        exit 1
    fi
    echo "$target: $(grep -E '^(Done|stat::number_of_executed_units)' "$work/log" | tr '\n' ' ')"
done
"$python" "$here/fuzz_config.py" "$third"
[ -n "${FUZZ_WORK:-}" ] || rm -r "$work"
