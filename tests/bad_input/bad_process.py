"""Cases: scheduling, I/O priority, memory policy and the like that make no sense."""

from __future__ import annotations

from typing import Any

from bad_values import case

from ocirt.config.sysctl import pointer_of

SCHEDULER = "/process/scheduler"
DOMAIN = "/linux/personality"
MEMORY = "/linux/memoryPolicy"
AFFINITY = "/process/execCPUAffinity"


def deadline(runtime: int, deadline: int, period: int = 0) -> dict[str, Any]:
    return {"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period}


PROCESS = [
    case("an OOM score a string", "/process/oomScoreAdj", "0", "expected an integer", 'got "0"'),
    case("an OOM score out of range", "/process/oomScoreAdj", -1001, "from -1000 to 1000", "got -1001"),
    case("a scheduler without a policy", SCHEDULER, {"nice": 1}, "required", at=SCHEDULER + "/policy"),
    case("an unknown policy", SCHEDULER, {"policy": "SCHED_NORMAL"}, 'unknown scheduling policy "SCHED_NORMAL"',
         at=SCHEDULER + "/policy"),
    case("a policy misspelt", SCHEDULER, {"policy": "SCHED_FIF0"}, "did you mean SCHED_FIFO?",
         at=SCHEDULER + "/policy"),
    case("a nice value out of range", SCHEDULER, {"policy": "SCHED_OTHER", "nice": 20}, "from -20 to 19", "got 20",
         at=SCHEDULER + "/nice"),
    case("a priority of SCHED_OTHER", SCHEDULER, {"policy": "SCHED_OTHER", "priority": 1},
         "SCHED_OTHER has no priority", "got 1", at=SCHEDULER + "/priority"),
    case("SCHED_RR without a priority", SCHEDULER, {"policy": "SCHED_RR"}, "from 1 to 99", "got 0",
         at=SCHEDULER + "/priority"),
    case("a priority too high", SCHEDULER, {"policy": "SCHED_FIFO", "priority": 100}, "from 1 to 99", "got 100",
         at=SCHEDULER + "/priority"),
    case("a deadline of SCHED_BATCH", SCHEDULER, {"policy": "SCHED_BATCH", "deadline": 5},
         "SCHED_BATCH has no deadline", "SCHED_DEADLINE has", at=SCHEDULER + "/deadline"),
    case("a runtime too short", SCHEDULER, deadline(1023, 5000), "at least 1024 nanoseconds", "got 1023",
         at=SCHEDULER + "/runtime"),
    case("a deadline before the runtime", SCHEDULER, deadline(5000, 4000), "runtime ≤ deadline ≤ period",
         at=SCHEDULER + "/deadline"),
    case("a period before the deadline", SCHEDULER, deadline(5000, 6000, 5500), "got 5000, 6000, 5500",
         at=SCHEDULER + "/deadline"),
    case("an unknown scheduler flag", SCHEDULER, {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK", "X"]},
         'unknown scheduler flag "X"', "one of SCHED_FLAG_RESET_ON_FORK", at=SCHEDULER + "/flags/1"),
    case("an I/O priority without a class", "/process/ioPriority", {"priority": 1}, "required",
         at="/process/ioPriority/class"),
    case("an unknown class", "/process/ioPriority", {"class": "IOPRIO_CLASS_BEST", "priority": 1},
         'unknown class of I/O priorities "IOPRIO_CLASS_BEST"', "did you mean IOPRIO_CLASS_BE?",
         at="/process/ioPriority/class"),
    case("a level out of range", "/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "from 0 to 7",
         "got 8", at="/process/ioPriority/priority"),
    case("processors that are no list", AFFINITY, {"initial": "0,a"}, "such as 0-3,7", 'got "0,a"',
         at=AFFINITY + "/initial"),
    case("processors backwards", AFFINITY, {"initial": "0", "final": "0, 7-4"}, '"7-4" ends before it begins',
         at=AFFINITY + "/final"),
    case("a processor too high", AFFINITY, {"final": "8192"}, "processors below 8192", "got 8192",
         at=AFFINITY + "/final"),
    case("a list with a gap", AFFINITY, {"final": "1,,2"}, "such as 0-3,7", at=AFFINITY + "/final"),
    case("an unknown execution domain", DOMAIN, {"domain": "LINUX64"}, 'unknown execution domain "LINUX64"',
         at=DOMAIN + "/domain"),
    case("a flag of the personality", DOMAIN, {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]},
         'unknown flag "ADDR_NO_RANDOMIZE"', "none yet", at=DOMAIN + "/flags/0"),
    case("an unknown memory policy", MEMORY, {"mode": "BIND", "nodes": "0"}, 'unknown memory policy "BIND"',
         "did you mean MPOL_BIND?", at=MEMORY + "/mode"),
    case("a memory policy without nodes", MEMORY, {"mode": "MPOL_BIND"}, "MPOL_BIND needs nodes", at=MEMORY + "/nodes"),
    case("nodes of MPOL_LOCAL", MEMORY, {"mode": "MPOL_LOCAL", "nodes": "0"}, "MPOL_LOCAL takes no nodes",
         at=MEMORY + "/nodes"),
    case("no nodes that are static", MEMORY, {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"]},
         "MPOL_PREFERRED needs nodes", at=MEMORY + "/nodes"),
    case("static nodes of MPOL_DEFAULT", MEMORY, {"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]},
         "not MPOL_F_STATIC_NODES", at=MEMORY + "/flags"),
    case("static and relative", MEMORY,
         {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
         "either static or relative", at=MEMORY + "/flags"),
    case("balancing with interleaving", MEMORY,
         {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "goes with MPOL_BIND",
         at=MEMORY + "/flags"),
    case("a node too high", MEMORY, {"mode": "MPOL_BIND", "nodes": "0-1024"}, "memory nodes below 1024", "got 1024",
         at=MEMORY + "/nodes"),
    *(
        case(f"sysctl {key}", "/linux/sysctl", {"net.ipv4.ip_forward": "1", key: "1"}, *words, at=pointer_of(key))
        for key, *words in (
            ("kernel.hostname", "use the property hostname"),
            ("kernel/hostname", "use the property hostname"),
            ("kernel.panic", "kernel.panic is not of a namespace", "the whole host"),
            ("kernel.shmmax.x", "is not of a namespace"),
            ("vm/swappiness", "vm.swappiness is not of a namespace"),
            ("fs.mqueue", "is not of a namespace"),
            ("network.x", "is not of a namespace"),
            ("net", "is not of a namespace"),
            ("user.max_user_namespaces", "needs a user namespace of its own", 'add {"type": "user"}'),
            ("net/../kernel/panic", "expected the name of a kernel parameter"),
            ("net..core", "expected the name of a kernel parameter"),
            (".net.core", "expected the name of a kernel parameter"),
            ("net/", "expected the name of a kernel parameter"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward is set twice, also as net.ipv4.ip_forward"),
            ("net.ipv4.no_such_parameter", "No such file or directory", "has no such parameter"),
            ("net~ipv4", "is not of a namespace"),
        )
    ),
    case("a sysctl a number", "/linux/sysctl", {"net.ipv4.ip_forward": 1}, "expected a string", "got 1",
         at="/linux/sysctl/net.ipv4.ip_forward"),
    case("a sysctl of the host's network", "/linux", {"namespaces": [{"type": "mount"}, {"type": "uts"}],
         "sysctl": {"net.ipv4.ip_forward": "1"}}, "needs a network namespace of its own", 'add {"type": "network"}',
         at="/linux/sysctl/net.ipv4.ip_forward"),
    case("a sysctl of the host's System V", "/linux", {"namespaces": [{"type": "mount"}, {"type": "uts"}],
         "sysctl": {"fs.mqueue.msg_max": "20"}}, "needs an ipc namespace of its own",
         at="/linux/sysctl/fs.mqueue.msg_max"),
    case("a sysctl of a joined network that is the host's", "/linux", {
         "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/proc/self/ns/net"}],
         "sysctl": {"net.ipv4.ip_forward": "1"}}, "needs a network namespace of its own",
         at="/linux/sysctl/net.ipv4.ip_forward"),
    case("a sysctl's value", "/linux/sysctl", {"net.ipv4.ip_forward": "yes"},
         "set net.ipv4.ip_forward to yes: Invalid argument (the parameter does not take this value)",
         at="/linux/sysctl/net.ipv4.ip_forward"),
    case("a sysctl of two values", "/linux/sysctl", {"net.ipv4.ip_forward": "1 1"},
         "set net.ipv4.ip_forward to 1 1: Invalid argument", at="/linux/sysctl/net.ipv4.ip_forward"),
    case("a profile a list", "/process/apparmorProfile", ["a"], "expected a string", "got an array"),
    case("a label a number", "/process/selinuxLabel", 1, "expected a string", "got 1"),
]  # fmt: skip
