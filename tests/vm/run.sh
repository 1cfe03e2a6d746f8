#!/bin/bash
#
# run.sh - the container tests in a virtual machine: Debian 12 with systemd, once with pure cgroup v2 and once with
# the hybrid layout of systemd (v1 hierarchies with two controllers, such as cpu,cpuacct, and a v2 tree beside them).
#
# usage: run.sh [OCIRT [PYTEST-ARGUMENT...]]
#
# OCIRT is the installed executable (default: .venv/bin/ocirt); it and its package are copied into the machine. The
# image is built first if it is missing: about a minute. A run takes about 30 minutes on two slow
# cores, because the machine is emulated.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
repository=$(cd "$here/../.." && pwd)
ocirt=$(realpath "${1:-$repository/.venv/bin/ocirt}")
[ $# -eq 0 ] || shift
[ -x "$ocirt" ] || { echo "run.sh: no $ocirt: run \"make build\"" >&2; exit 125; }

"$here/vm" build --small
share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT

# What the tests need, and nothing that is large: the executable finds its package from its own place.
prefix=$(dirname "$(dirname "$ocirt")")
packages=$(cd "$prefix" && echo lib/python3*/site-packages)
mkdir -p "$share/bin" "$share/$packages"
cp "$ocirt" "$share/bin/ocirt"
for name in ocirt click jeepney jsonschema jsonschema_specifications referencing rpds attr attrs typing_extensions.py; do
    [ ! -e "$prefix/$packages/$name" ] || cp -r "$prefix/$packages/$name" "$share/$packages/"
done
cp -r "$repository/tests" "$repository/docs" "$repository/conformance" "$repository/setup.cfg" "$repository/pyproject.toml" "$share/"

result=0
for layout in v2 hybrid; do
    append=
    [ $layout = v2 ] || append="systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
    echo "== $layout"
    "$here/vm" run --small --share "$share" --timeout 4000 ${append:+--append "$append"} -- \
        tests/vm/test_vm.sh $layout "$@" || result=$?
done
exit $result
