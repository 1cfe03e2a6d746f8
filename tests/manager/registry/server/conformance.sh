#!/bin/bash
#
# conformance.sh - distribution-spec's own conformance program, against our registry.
#
# usage: conformance.sh FOLDER [PYTHON]
#
# FOLDER is a checkout of github.com/opencontainers/distribution-spec; PYTHON one that ocirt[manager] is installed for (default:
# .venv's). Needs Go 1.24 or newer, and the Go modules that the program takes. Prints its report; 0 if nothing failed.
set -euo pipefail
self=$(readlink -f "$0")
folder=$(readlink -f "$1")
python=${2:-$(cd "$(dirname "$self")/../../../.." && pwd)/.venv/bin/python}
work=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || :; wait; rm -rf "$work"' EXIT
(cd "$folder/conformance" && go build -o "$work/conformance" .)
"$python" - "$work" >"$work/log" 2>&1 <<'PYTHON' &
import sys
from pathlib import Path
from ocirt.manager.registry.server.options import Options
from ocirt.manager.registry.server.server import serve
from ocirt.manager.site import Site

sys.exit(serve(Site(Path(sys.argv[1]) / "root", Path(sys.argv[1]) / "run"), Options(port=0)))
PYTHON
server=$!
until grep -q 'listening on' "$work/log"; do kill -0 "$server" && sleep 0.1; done
address=$(sed -n 's|.*listening on http://\([^,]*\),.*|\1|p' "$work/log")
cd "$work"
OCI_REGISTRY=$address OCI_TLS=disabled OCI_VERSION=${OCI_VERSION:-dev} ./conformance
