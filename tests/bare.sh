#!/bin/bash
# Prove a README command in a bare Debian 12: mmdebstrap makes a root with "minbase" and nothing else, a copy of this
# checkout goes in, and there runs `apt-get update && apt-get install -y make && make TARGET`.
# usage: bare.sh TARGET   (as root, and not under `isolate`: packages come over the network)
set -euo pipefail

target=${1:-demo}
source=$(cd "$(dirname "$0")/.." && pwd)
[ "$(id -u)" = 0 ] || { echo "bare.sh: needs root" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
mmdebstrap --quiet --variant=minbase bookworm "$root" >&2

# How this host reaches its packages (mirror, proxy, certificates) is how the bare one has to.
rm -f "$root/etc/apt/sources.list"
for file in /etc/apt/apt.conf.d/*registry* /etc/apt/apt.conf.d/*proxy* /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
    /etc/apt/sources.list.d/*.sources /etc/apt/auth.conf.d/* /etc/resolv.conf /etc/hosts; do
    [ -f "$file" ] || continue
    mkdir -p "$root${file%/*}"
    cp -L "$file" "$root$file"
done
env=(HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb)
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then # in a place that no package writes to
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/host-certificates.crt"
    env+=(PIP_CERT=/host-certificates.crt)
fi
while read -r name; do env+=("$name=${!name}"); done < <(compgen -e | grep -iE '^(CI|PIP_INDEX_URL|PIP_DEFAULT_TIMEOUT|https?_proxy|no_proxy)$')
mkdir "$root/ocirt"
git -C "$source" archive HEAD | tar -x -C "$root/ocirt"

# A mount namespace of its own: nothing is left mounted whatever happens. Not a chroot, in which the kernel makes no user
# namespaces (clone(2), EPERM). The bare root may lack umount(8): ours is kept open.
ROOT=$root unshare --mount --propagation private bash -euc '
    mount --bind "$ROOT" "$ROOT"
    for folder in proc sys dev; do mount --rbind "/$folder" "$ROOT/$folder"; done
    exec 9< "$(command -v umount)"
    mkdir "$ROOT/old"
    cd "$ROOT"
    pivot_root . old
    cd /
    /proc/self/fd/9 -l /old
    rmdir /old
    exec 9<&-
    exec /usr/bin/env -i "$@"
' bash "${env[@]}" sh -euc "
    cd /ocirt
    apt-get update -qq
    apt-get install -qq -y make >/dev/null
    make $target"
