#!/bin/sh
#
# run.sh - fuzz init's decoder and the way of a configuration to a plan.
#
# usage: run.sh SECONDS [PYTHON]
#
# Half of the time each. Fails on any finding, and says where the input is.
# PYTHON has ocirt installed (default: .venv/bin/python, else python3). Needs clang with its fuzzer
# library (Debian: apt-get install clang libclang-rt-14-dev) and gcc.
set -eu
[ $# -ge 1 ] || { sed -n '3,10s/^# \{0,1\}//p' "$0"; exit 2; }
half=$(($1 / 2 > 0 ? $1 / 2 : 1))
here=$(cd "$(dirname "$0")" && pwd)
python=${2:-$here/../../.venv/bin/python}
[ -x "$python" ] || python=python3
work=${FUZZ_WORK:-$(mktemp -d)}
mkdir -p "$work"

clang -std=c11 -Wall -Wextra -Werror -g -O1 -fno-sanitize-recover=all \
    -fsanitize=fuzzer,address,undefined -o "$work/fuzz_decode" "$here/fuzz_decode.c"
"$python" "$here/corpus.py" "$work/seeds"
mkdir -p "$work/corpus"
if ! ASAN_OPTIONS=detect_leaks=0 "$work/fuzz_decode" -max_total_time="$half" -max_len=131072 -timeout=5 \
    -print_final_stats=1 -verbosity=1 -artifact_prefix="$work/" "$work/corpus" "$work/seeds" >"$work/log" 2>&1; then
    tail -50 "$work/log"
    echo "run.sh: the decoder's fuzzer has a finding in $work" >&2
    exit 1
fi
grep -E '^(Done|stat::number_of_executed_units)' "$work/log"
"$python" "$here/fuzz_config.py" "$half"
[ -n "${FUZZ_WORK:-}" ] || rm -r "$work"
