"""Cases: values in config.json that are refused before anything is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Spoil = Callable[[dict[str, Any]], object]
MISSING = object()


@dataclass
class Case:
    """`spoil` changes the default configuration; the message has `pointer` and `words`."""

    name: str
    spoil: Spoil
    pointer: str
    words: tuple[str, ...]


def put(pointer: str, value: Any) -> Spoil:
    """Set the value at a pointer; MISSING removes it, "-" as the last part appends."""

    def spoil(config: dict[str, Any]) -> None:
        *way, last = pointer.split("/")[1:]
        at: Any = config
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if value is MISSING:
            del at[last]
        elif last == "-":
            at.append(value)
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return spoil


def both(*spoils: Spoil) -> Spoil:
    return lambda config: [spoil(config) for spoil in spoils]


MAP = [{"containerID": 0, "hostID": 1000, "size": 10}]


def case(name: str, pointer: str, value: Any, *words: str, at: str | None = None) -> Case:
    """The value at `pointer` is wrong; the message points to `at`, or there."""
    return Case(name, put(pointer, value), at or pointer, words)


def limit(name: str, soft: int, hard: int) -> dict[str, Any]:
    return {"type": name, "soft": soft, "hard": hard}


UID = "/process/user/uid"
TYPES = [
    case("uid a word", UID, "abc", "expected an integer", 'got "abc"'),
    case("uid a number in quotes", UID, "0", "expected an integer", 'got "0"'),
    case("uid true", UID, True, "expected an integer", "got true"),
    case("uid a float", UID, 1.0, "expected an integer", "got 1.0"),
    case("uid negative", UID, -1, "expected an integer from 0 to 4294967294", "got -1"),
    case("uid the kernel's unchanged", UID, 2**32 - 1, "from 0 to 4294967294", "got 4294967295"),
    case("uid beyond 64 bits", UID, 2**64 + 5, "from 0 to 4294967294", "got 18446744073709551621"),
    case("uid null", UID, None, "expected an integer", "got null"),
    case("uid missing", UID, MISSING, "required", "got nothing"),
    case("gid an array", "/process/user/gid", [0], "expected an integer", "got an array"),
    case("a group a word", "/process/user/additionalGids", [1, "wheel"], "expected an integer", 'got "wheel"',
         at="/process/user/additionalGids/1"),
    case("umask too large", "/process/user/umask", 0o1000, "from 0 to 511", "got 512"),
    case("user missing", "/process/user", MISSING, "required", "got nothing"),
    case("user a name", "/process/user", "root", "expected an object", 'got "root"'),
    case("root an array", "/root", ["rootfs"], "expected an object", "got an array"),
    case("root path a number", "/root/path", 7, "expected a string", "got 7"),
    case("root path missing", "/root/path", MISSING, "required", "got nothing"),
    case("readonly a word", "/root/readonly", "yes", "expected true or false", 'got "yes"'),
    case("readonly a number", "/root/readonly", 1, "expected true or false", "got 1"),
    case("args a string", "/process/args", "/bin/true", "expected an array", 'got "/bin/true"'),
    case("an argument a number", "/process/args", ["sleep", 5], "expected a string", "got 5", at="/process/args/1"),
    case("an argument null", "/process/args", ["sleep", None], "got null", at="/process/args/1"),
    case("env an object", "/process/env", {"A": "b"}, "expected an array", "got an object"),
    case("cwd null", "/process/cwd", None, "expected a string", "got null"),
    case("cwd missing", "/process/cwd", MISSING, "required", "got nothing"),
    case("terminal a number", "/process/terminal", 0, "expected true or false", "got 0"),
    case("mounts an object", "/mounts", {}, "expected an array", "got an object"),
    case("a mount null", "/mounts/2", None, "got null"),
    case("a destination missing", "/mounts/0/destination", MISSING, "required", "got nothing"),
    case("options a string", "/mounts/1/options", "ro,nosuid", "expected an array", 'got "ro,nosuid"'),
    case("namespaces an object", "/linux/namespaces", {"pid": {}}, "expected an array", "got an object"),
    case("a namespace a string", "/linux/namespaces/0", "pid", "expected an object", 'got "pid"'),
    case("a namespace null", "/linux/namespaces/0", None, "got null"),
    case("linux an array", "/linux", [1], "expected an object", "got an array"),
    case("an annotation a number", "/annotations", {"a/b~c": 1}, "expected a string", at="/annotations/a~1b~0c"),
    case("a limit a string", "/process/rlimits", [{"type": "RLIMIT_CORE", "soft": "1", "hard": 1}],
         "expected an integer", 'got "1"', at="/process/rlimits/0/soft"),
    case("a limit beyond 64 bits", "/process/rlimits", [limit("RLIMIT_CORE", 0, 2**64)], "expected an integer",
         "got 18446744073709551616", at="/process/rlimits/0/hard"),
    case("a limit without hard", "/process/rlimits", [{"type": "RLIMIT_CORE", "soft": 1}], "required",
         at="/process/rlimits/0/hard"),
    case("NUL in an argument", "/process/args", ["a\0b"], "NUL", at="/process/args/0"),
    case("NUL in a path", "/root/path", "root\0fs", "NUL"),
    case("a lone surrogate", "/process/args", ["\udcff"], "whole Unicode characters", at="/process/args/0"),
    case("control characters", "/linux/namespaces/0/type", "pid\n\x1b[31m\r", "pid\\n\\x1b[31m\\r"),
    case("a version a number", "/ociVersion", 1.3, "expected a string", "got 1.3"),
]  # fmt: skip

MEANING = [
    case("a future major version", "/ociVersion", "2.0.0", "expected a version 1.x", "got 2.0.0"),
    case("a version with a v", "/ociVersion", "v1.2.0", "such as 1.3.0", 'got "v1.2.0"'),
    case("a version of two numbers", "/ociVersion", "1.2", "such as 1.3.0", 'got "1.2"'),
    case("an empty version", "/ociVersion", "", "such as 1.3.0", 'got ""'),
    case("no version", "/ociVersion", MISSING, "required", "got nothing"),
    case("no root", "/root", MISSING, "expected an object", "got nothing", "root file system"),
    case("root null", "/root", None, "expected an object", "got nothing"),
    case("no process", "/process", MISSING, "expected an object", "got nothing", "program to run"),
    case("no linux", "/linux", MISSING, "expected an object", "got nothing", "namespaces"),
    Case("a bundle for Windows", both(put("/linux", MISSING), put("/windows", {"layerFolders": ["C:\\"]})), "/windows",
         ("for windows", "ocirt runs Linux")),
    case("a relative cwd", "/process/cwd", "tmp", "expected an absolute path", 'got "tmp"'),
    case("an empty cwd", "/process/cwd", "", "expected an absolute path", 'got ""'),
    case("args empty", "/process/args", [], "args must not be empty", "its first entry is the program"),
    case("args missing", "/process/args", MISSING, "args must not be empty"),
    case("an empty program", "/process/args", ["", "x"], "expected a program", at="/process/args/0"),
    case("env without =", "/process/env", ["PATH=/bin", "NOVALUE"], "NAME=value", 'got "NOVALUE"', at="/process/env/1"),
    case("env without a name", "/process/env", ["=x"], "NAME=value", at="/process/env/0"),
    case("an unknown limit", "/process/rlimits", [limit("RLIMIT_NOFLIE", 1, 1)], "unknown resource limit",
         "did you mean RLIMIT_NOFILE?", at="/process/rlimits/0/type"),
    case("a limit twice", "/process/rlimits", [limit("RLIMIT_CORE", 0, 0), limit("RLIMIT_CORE", 1, 1)],
         "RLIMIT_CORE is set twice", "/process/rlimits/0", at="/process/rlimits/1/type"),
    case("soft above hard", "/process/rlimits", [limit("RLIMIT_CORE", 9, 8)], "soft limit 9", "hard limit 8",
         at="/process/rlimits/0/soft"),
    Case("an unknown capability by 1.0", both(put("/ociVersion", "1.0.2"),
         put("/process/capabilities/bounding", ["CAP_KILL", "CAP_SYSADMIN"])), "/process/capabilities/bounding/1",
         ("unknown capability", "CAP_SYSADMIN", "did you mean CAP_SYS_ADMIN?")),
    case("an unknown namespace", "/linux/namespaces/-", {"type": "networks"}, "unknown namespace type",
         "did you mean network?", at="/linux/namespaces/6/type"),
    case("a namespace twice", "/linux/namespaces/-", {"type": "pid"}, "a second pid namespace", "remove one",
         at="/linux/namespaces/6/type"),
    case("a hostname of the host's", "/linux/namespaces", [{"type": "mount"}, {"type": "pid"}], "needs a uts namespace",
         'add {"type": "uts"}', at="/hostname"),
    case("a long hostname", "/hostname", "h" * 65, "at most 64 bytes", "got 65"),
    case("a long domainname", "/domainname", "d" * 70, "at most 64 bytes", "got 70"),
    case("a mount without type", "/mounts/-", {"destination": "/mnt"}, "a mount needs a type", '"bind"',
         at="/mounts/7/type"),
    case("a bind without its option", "/mounts/-", {"destination": "/mnt", "type": "bind", "source": "/tmp"},
         '"bind" alone does not make a bind mount', 'add the option "bind" or "rbind"', at="/mounts/7/options"),
    case("a bind without source", "/mounts/-", {"destination": "/mnt", "options": ["bind"]}, "needs a source",
         at="/mounts/7/source"),
    case("copy-symlink of what is not bound", "/mounts/-",
         {"destination": "/m", "type": "tmpfs", "options": ["copy-symlink"]},
         'the mount option "copy-symlink" is for bind mounts', at="/mounts/7/options/0"),
    case("copy-symlink and src-nofollow", "/mounts/-",
         {"destination": "/m", "source": "/tmp", "options": ["src-nofollow", "bind", "copy-symlink"]},
         'excludes "src-nofollow"', at="/mounts/7/options/2"),
    case("tmpcopyup of what is no tmpfs", "/mounts/-", {"destination": "/m", "type": "proc", "options": ["tmpcopyup"]},
         'the mount option "tmpcopyup" is for tmpfs', at="/mounts/7/options/0"),
    case("options of more than a page", "/mounts/-", {"destination": "/m", "type": "tmpfs", "options": ["x" * 4096]},
         "at most 4095 bytes of options, got 4096", at="/mounts/7/options"),
    case("an id map of users alone", "/mounts/-", {"destination": "/m", "type": "tmpfs", "uidMappings": MAP},
         "uidMappings without gidMappings", at="/mounts/7/uidMappings"),
    case("an id map of no ids", "/mounts/-",
         {"destination": "/m", "type": "tmpfs", "gidMappings": MAP, "uidMappings": [MAP[0] | {"size": 0}]},
         "a mapping of no ids", at="/mounts/7/uidMappings/0/size"),
    case("idmap without a map", "/mounts/-", {"destination": "/m", "type": "tmpfs", "options": ["ro", "idmap"]},
         'the mount option "idmap" needs a map', "user namespace", at="/mounts/7/options/1"),
    case("idmap with a map that is none", "/mounts/-",
         {"destination": "/m", "type": "tmpfs", "options": ["ridmap=uids=0-1;gids=0-1-1"]},
         "expected uids=FIRST-", at="/mounts/7/options/0"),
    case("idmap of users alone", "/mounts/-", {"destination": "/m", "type": "tmpfs", "options": ["idmap=uids=0-1-1"]},
         "expected both uids and gids", at="/mounts/7/options/0"),
    case("idmap relative to no user namespace", "/mounts/-",
         {"destination": "/m", "type": "tmpfs", "options": ["idmap=uids=@0-1-1;gids=0-1-1"]},
         "is not one range of the container's uidMappings", at="/mounts/7/options/0"),
    case("a label of mounts that is no string", "/linux/mountLabel", ["x"], "expected a string"),
    case("a propagation that is none", "/linux/rootfsPropagation", "master", 'unknown propagation "master"',
         "one of shared"),
    case("a propagation that is no string", "/linux/rootfsPropagation", True, "expected a string"),
    case("a bind source that is not there", "/mounts/-",
         {"destination": "/mnt", "source": "/no/such/source", "options": ["bind"]}, "/no/such/source",
         "No such file or directory", "must exist on the host", at="/mounts/7/source"),
    case("a mount on the root", "/mounts/-", {"destination": "/x/..", "type": "tmpfs"}, 'below "/"', "/root/path",
         at="/mounts/7/destination"),
    case("an empty destination", "/mounts/-", {"destination": "", "type": "tmpfs"}, "expected a path",
         at="/mounts/7/destination"),
    case("a destination too long", "/mounts/-", {"destination": "/a" * 2100, "type": "tmpfs"}, "at most 4095 bytes",
         "got 4200", at="/mounts/7/destination"),
    case("a name too long", "/mounts/-", {"destination": "/" + "n" * 256, "type": "tmpfs"}, "at most 255 bytes",
         at="/mounts/7/destination"),
    case("a relative masked path", "/linux/maskedPaths", ["/proc/kcore", "proc/keys"], "expected an absolute path",
         'got "proc/keys"', at="/linux/maskedPaths/1"),
    case("a relative readonly path", "/linux/readonlyPaths", ["./sys"], "expected an absolute path",
         at="/linux/readonlyPaths/0"),
    case("the root masked", "/linux/maskedPaths", ["/tmp/.."], 'expected a path below "/", got "/tmp/.."',
         at="/linux/maskedPaths/0"),
    case("the root a readonly path", "/linux/readonlyPaths", ["/sys", "/"], 'expected a path below "/"',
         "/root/readonly makes", at="/linux/readonlyPaths/1"),
    case("a cgroup path upwards", "/linux/cgroupsPath", "/a/../../b", '".." has no place', "/a/../../b"),
    case("a cgroup name too long", "/linux/cgroupsPath", "/" + "c" * 256, "at most 255 bytes"),
    case("a device rule of another kind", "/linux/resources/devices/-", {"allow": True, "type": "x"},
         'expected "a", "b" or "c"', 'got "x"', at="/linux/resources/devices/1/type"),
    case("a device rule's access", "/linux/resources/devices/-", {"allow": True, "access": "rx"},
         'letters of "rwm"', 'got "rx"', at="/linux/resources/devices/1/access"),
    case("a device rule's number", "/linux/resources/devices/-", {"allow": True, "type": "c", "major": -2},
         "-1 (any)", "got -2", at="/linux/resources/devices/1/major"),
    case("a device rule without allow", "/linux/resources/devices/-", {"type": "c"}, "required",
         at="/linux/resources/devices/1/allow"),
]  # fmt: skip
