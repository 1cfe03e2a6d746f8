#!/bin/sh
#
# inside.sh - what a process in the container sees, for suite_judge.py, which knows what it should see.
#
# usage: inside.sh [QUESTION=PATH...]
#
# Prints sections, each with a line "== NAME" before it. Needs nothing but /bin/busybox. It decides nothing: an
# answer that cannot be had is an empty section.
busybox=/bin/busybox

section() {
    printf '\n== %s\n' "$1"
}

# Of files and character devices, whether the first byte can be read; of folders, whether anything shows.
readable() {
    if [ -d "$1" ]; then
        [ -n "$($busybox ls -A "$1" 2>/dev/null)" ] && echo yes || echo no
    elif [ -f "$1" ] || [ -c "$1" ]; then
        [ "$($busybox head -c 1 "$1" 2>/dev/null | $busybox wc -c)" = 1 ] && echo yes || echo no
    else
        echo neither
    fi
}

writable() {
    if [ -d "$1" ]; then
        (: >"$1/written") 2>/dev/null && $busybox rm "$1/written" && echo yes || echo no
    elif [ -f "$1" ] || [ -c "$1" ]; then
        (printf a >"$1") 2>/dev/null && echo yes || echo no
    else
        echo neither
    fi
}

# Is what is mounted below / seen below a bind mount of / too?
propagation() {
    $busybox mkdir /target /mount /test
    if ! $busybox mount -o rbind / /target 2>&1; then
        return
    fi
    : >/test/example
    $busybox mount -o rbind /test /mount 2>&1
    [ -e /target/mount/example ] && echo exposed || echo hidden
    $busybox umount -l /mount
    $busybox umount -l /target
}

for name in cmdline environ; do
    section $name
    $busybox tr '\0' '\n' </proc/$$/$name
done
for name in status limits mountinfo oom_score_adj uid_map gid_map; do
    section $name
    $busybox cat /proc/$$/$name
done
section cwd
$busybox readlink /proc/$$/cwd
section getcwd
$busybox pwd -P 2>&1
section hostname
$busybox hostname

for question in "$@"; do
    section "$question"
    path=${question#*=}
    case ${question%%=*} in
    stat) $busybox stat -L -c '%f %t %T %u %g' "$path" ;;
    link) $busybox readlink "$path" ;;
    content) $busybox cat "$path" ;;
    readable) readable "$path" ;;
    writable) writable "$path" ;;
    propagation) propagation ;;
    esac
done
section end
