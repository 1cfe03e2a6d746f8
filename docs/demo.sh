#!/bin/bash
# The demonstration of `make demo`: a container from a bundle, and its life cycle step by step.
# usage: demo.sh OCIRT
set -euo pipefail

ocirt=$(realpath "$1")
work=$(mktemp -d)
root=$work/state
registry=
cleanup() {
    "$ocirt" --root "$root" delete --force demo || true
    [ -z "$registry" ] || kill "$registry" || true
    rm -rf "$work"
}
trap cleanup EXIT

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
step() { # show a command, run it, say how long it took
    local start end
    case $* in
    create) printf '\n%s$ ocirt create --bundle ./bundle demo%s\n' "$bold" "$plain" ;;
    explain) printf '\n%s$ ocirt explain ./bundle | head -n 24%s\n' "$bold" "$plain" ;;
    *) printf '\n%s$ %s%s\n' "$bold" "${*//$work/.}" "$plain" ;;
    esac
    start=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    printf '  (%d.%d ms)\n' $(((end - start) / 1000000)) $(((end - start) / 100000 % 10))
}
ocirt() { "$ocirt" --root "$root" "$@"; }

echo "A bundle: a root file system with busybox, and a config.json by \`ocirt spec\`."
bundle=$work/bundle
mkdir -p "$bundle"/rootfs/{bin,dev,etc,proc,root,sys,tmp}
cp /bin/busybox "$bundle/rootfs/bin"
for applet in sh id hostname ps mount grep cat sleep ulimit; do
    ln -s busybox "$bundle/rootfs/bin/$applet"
done
echo root:x:0:0:root:/root:/bin/sh >"$bundle/rootfs/etc/passwd"
step ocirt spec --bundle "$bundle"
cat >"$bundle/rootfs/look" <<'END'
echo "hostname:     $(hostname)"
echo "ids:          $(id)"
echo "capabilities: $(grep CapEff /proc/self/status | cat)"
echo "open files:   $(ulimit -n)"
echo "processes:"; ps
echo "mounts:"; mount
END
configure() { # terminal off, and the program
    "$(dirname "$ocirt")/python" - "$bundle/config.json" "$@" <<'END'
import json, sys
path, *args = sys.argv[1:]
config = json.load(open(path))
config["process"].update(terminal=False, args=args)
json.dump(config, open(path, "w"), indent=4)
END
}
configure /bin/sh /look

echo; echo "What would run: the first of all steps, each with the line of config.json that it is due to."
explain() { ocirt explain "$bundle" | head -n 24; }
step explain

echo; echo "The container."
step ocirt run "$bundle" demo

echo; echo "The life cycle, step by step."
configure /bin/sleep 100
create() { ocirt create --bundle "$bundle" demo </dev/null >/dev/null 2>&1; } # sleep would keep a pipe open
step create
step ocirt state demo
step ocirt start demo
step ocirt list
step ocirt kill demo KILL
until ocirt state demo | grep -q stopped; do sleep 0.01; done
step ocirt delete demo
step ocirt list
echo; echo "Nothing of it is left."

echo; echo "The manager: a registry of our own, an image into it, and from there into another store, where it runs."
ocim=$(dirname "$ocirt")/ocim
ocim() { OCIM_ROOT=$work/store OCIM_RUN=$work/run "$ocim" "$@"; }
OCIM_ROOT=$work/served OCIM_RUN=$work/served-run "$ocim" registry serve --address 127.0.0.1:0 >"$work/registry" 2>&1 &
registry=$!
until address=$(grep -om1 '127.0.0.1:[0-9]*' "$work/registry"); do
    kill -0 "$registry" || { cat "$work/registry"; exit 1; }
    sleep 0.1
done
tar -C "$bundle/rootfs" -c . | step ocim import --change 'CMD ["sh", "/look"]' - "$address/demo/box:1"
step ocim push "$address/demo/box:1"
step ocim rmi "$address/demo/box:1"
step ocim pull "$address/demo/box:1"
step ocim run --rm --network none --hostname demo "$address/demo/box:1"
step ocim images
step ocim system prune --all --force
