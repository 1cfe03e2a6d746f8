#!/bin/bash
#
# suite.sh - the tests of engines with those of another Debian: in a root of its own, with ocirt built by its Python.
#
# usage: suite.sh SUITE [PYTEST-ARGUMENT...]        such as: suite.sh trixie -k containerd
#
# The first time mmdebstrap makes the root, in some minutes, below ~/.cache/ocirt-engines; remove that folder to have
# it made anew. A run writes nothing to it. Needs root, mmdebstrap, and a venv of this checkout to fetch packages with.
set -euo pipefail
self=$(readlink -f "$0")
repository=$(cd "$(dirname "$self")/../.." && pwd)

# What the engines take, what ocirt is built with, and what the tests call.
packages="podman conmon netavark aardvark-dns passt tini buildah containerd docker.io docker-cli docker-buildx
    containernetworking-plugins docker-registry runc crun iptables nftables ca-certificates python3 python3-venv python3-dev gcc libc6-dev
    libseccomp2 busybox-static iproute2 procps"
# runc since 1.1.6 says of a directory no more than that it is one, and podman then knows no better than exit code 255.
beside="test_docker_like.py::test_exit_code_of_run[podman-runc-directory]
    test_docker_like.py::test_exit_code_of_exec[podman-runc-directory]"
wheels="setuptools>=74 wheel pytest>=8 grpcio pyyaml click>=8.1 jsonschema>=4.18 jeepney>=0.8 pyroute2>=0.7"
clean=(env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb) # nothing of how this host finds its packages

build() { # the root of suite $1 in $2, unless it is there; leaves it locked
    local folder=$2 key version tmp
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock --shared 9 # for as long as the root is in use
    key=$(sha256sum <<<"$packages $wheels" | cut -c 1-16)
    [ "$(cat "$folder/key" 2>/dev/null)" != "$key" ] || return 0
    flock 9
    if [ "$(cat "$folder/key" 2>/dev/null)" != "$key" ]; then
        tmp=$folder/new
        rm -rf --one-file-system "$tmp" "$folder/root"
        # shellcheck disable=SC2086  # the lists are split
        mmdebstrap --quiet --variant=minbase --include="$(printf '%s,' $packages)" \
            --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt=force-unsafe-io --aptopt='Acquire::Check-Valid-Until "false"' "$1" "$tmp" >&2 # a mirror may lag
        version=$(chroot "$tmp" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        # shellcheck disable=SC2086
        "$repository/.venv/bin/pip" download --quiet --disable-pip-version-check --only-binary=:all: \
            --python-version "$version" --dest "$tmp/wheels" $wheels
        chroot "$tmp" python3 -m venv /venv
        # shellcheck disable=SC2086
        chroot "$tmp" "${clean[@]}" /venv/bin/pip install --quiet --disable-pip-version-check --no-index --find-links /wheels $wheels
        mv "$tmp" "$folder/root"
        echo "$key" >"$folder/key"
    fi
    flock --shared 9
}

criu=${OCIRT_CRIU:-$HOME/.cache/ocirt-criu}/trixie # where tests/criu/fetch puts it

inside() { # isolated: enter a copy of the root $1 that keeps nothing, and run the rest
    local root=$1 work=$2
    shift 2
    mount -t tmpfs tmpfs "$work"
    mkdir "$work/upper" "$work/work" "$work/root"
    mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/work" overlay "$work/root"
    cd "$work/root"
    mkdir old checkout
    (cd "$repository" && tar -c --exclude=./.git --exclude=./.venv --exclude=./build --exclude='*.egg-info' .) | tar -x -C checkout
    if [ -d "$criu" ]; then
        mkdir -p root/.cache/ocirt-criu
        cp -r "$criu" root/.cache/ocirt-criu/
    fi
    for folder in proc sys dev; do mount --rbind "/$folder" $folder; done
    mount -t tmpfs -o mode=755 tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    # Not chroot(2), after which the kernel makes no user namespaces.
    mount --make-rprivate /
    pivot_root . old
    cd /
    umount -l /old
    mount --make-rshared / # as tests/isolate leaves it
    cd /checkout
    "${clean[@]}" /venv/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation .
    # shellcheck disable=SC2086
    exec "${clean[@]}" CI="${CI:-}" OCIRT_ISOLATED=1 \
        /venv/bin/pytest -p no:cacheprovider tests/engines $(printf -- '--deselect tests/engines/%s ' $beside) "$@"
}

if [ "$1" = --inside ]; then
    shift
    inside "$@"
fi
suite=$1
shift
folder=${XDG_CACHE_HOME:-$HOME/.cache}/ocirt-engines/$suite
build "$suite" "$folder"
work=$(mktemp -d)
trap 'rmdir "$work"' EXIT
"$repository/tests/isolate" "$self" --inside "$folder/root" "$work" "$@" 9>&-
