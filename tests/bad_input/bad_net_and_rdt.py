"""Cases: values of linux.netDevices and linux.intelRdt that are wrong on every host."""

from __future__ import annotations

from bad_values import Case, both, case, put

NET, RDT = "/linux/netDevices", "/linux/intelRdt"

NET_AND_RDT = [
    case("devices an array", NET, ["eth0"], "expected an object", "got an array"),
    case("a device a string", NET, {"eth0": "eth1"}, "expected an object", 'got "eth1"', at=NET + "/eth0"),
    case("a device's name a number", NET, {"eth0": {"name": 1}}, "expected a string", at=NET + "/eth0/name"),
    case("a device without a name", NET, {"": {}}, "a key that is not empty", at=NET + "/"),
    case("a device's name too long", NET, {"a" * 16: {}}, "at most 15 bytes", "got 16", at=NET + "/" + "a" * 16),
    case("a device's new name too long", NET, {"a": {"name": "é" * 8}}, "at most 15 bytes", at=NET + "/a/name"),
    case("a device's name with a slash", NET, {"a/b": {}}, 'without "/"', at=NET + "/a~1b"),
    case("a device's new name with a space", NET, {"a": {"name": "a b"}}, 'without "/"', at=NET + "/a/name"),
    case("a device's new name a dot", NET, {"a": {"name": ".."}}, 'without "/"', at=NET + "/a/name"),
    case("lo", NET, {"lo": {}}, "lo cannot be moved", at=NET + "/lo"),
    case("a second lo", NET, {"eth0": {"name": "lo"}}, "has a lo already", at=NET + "/eth0/name"),
    case("a template of another kind", NET, {"a": {"name": "eth%s"}}, 'at most one "%"', at=NET + "/a/name"),
    case("two templates in one", NET, {"a": {"name": "e%d%d"}}, 'at most one "%"', at=NET + "/a/name"),
    case("a device that is a template", NET, {"eth%d": {}}, "the name of one device", at=NET + "/eth%d"),
    case("two devices, one name", NET, {"a": {"name": "x"}, "b": {"name": "x"}}, "a second device that is to be x",
         NET + "/a", at=NET + "/b/name"),
    case("a device named as another", NET, {"a": {}, "b": {"name": "a"}}, "a second device that is to be a",
         at=NET + "/b/name"),
    Case("devices of the host's namespace",
         both(put(NET, {"a": {}}), put("/linux/namespaces", [{"type": "mount"}, {"type": "uts"}])), NET,
         ("need a network namespace", 'add {"type": "network"}')),
    case("a class a number", RDT, {"closID": 1}, "expected a string", at=RDT + "/closID"),
    case("a class below another", RDT, {"closID": "a/b"}, "the name of a folder of resctrl", at=RDT + "/closID"),
    case("a class that is the parent", RDT, {"closID": ".."}, "the name of a folder of resctrl", at=RDT + "/closID"),
    case("a class that is the kernel's", RDT, {"closID": "info"}, "the name of a folder", at=RDT + "/closID"),
    case("an L3 schema for L2", RDT, {"l3CacheSchema": "L2:0=f"}, 'expected "L3:', at=RDT + "/l3CacheSchema"),
    case("a bandwidth schema for L3", RDT, {"memBwSchema": "L3:0=f"}, 'expected "MB:', at=RDT + "/memBwSchema"),
    case("a schema of two lines", RDT, {"memBwSchema": "MB:0=5\nL3:0=1"}, "one line", at=RDT + "/memBwSchema"),
    case("a line of two lines", RDT, {"schemata": ["L3:0=f", "a:b\n"]}, "one line", at=RDT + "/schemata/1"),
    case("a line without a resource", RDT, {"schemata": ["0=f"]}, "a line such as", at=RDT + "/schemata/0"),
    case("schemata a string", RDT, {"schemata": "L3:0=f"}, "expected an array", at=RDT + "/schemata"),
    case("monitoring a number", RDT, {"enableMonitoring": 1}, "true or false", at=RDT + "/enableMonitoring"),
]  # fmt: skip
