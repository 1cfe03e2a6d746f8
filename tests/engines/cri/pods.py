"""containerd with its CRI plugin, and pods and containers as the tests want them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engines.containerd import Containerd
from engines.cri.client import Client
from engines.documented import block
from engines.engine import IMAGE, eventually, has_all_capabilities, require
from support import command

POD, CONTAINER, NODE = range(3)
"""Modes of a namespace: the pod's, one of its own, the host's."""
RUNNING, EXITED = 1, 2
"""States of a container."""
RUNTIME_DEFAULT, UNCONFINED = range(2)
"""Seccomp profiles."""
CONFIGURATIONS = {
    "1.x": """\
root = "{{folder}}/root"
state = "{{folder}}/state"
{runtimes}
[grpc]
address = "{{folder}}/socket"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = {restricted}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{{folder}}/cni"
""",
    "2.x": """\
root = "{{folder}}/root"
state = "{{folder}}/state"
{runtimes}
[grpc]
address = "{{folder}}/socket"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = {restricted}
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{{folder}}/cni"
""",
}
"""Around what docs/kubernetes.md says of the runtimes. A pod's OOM score takes CAP_SYS_RESOURCE."""
PAUSE = "localhost/pause:latest"
NETWORK = """\
{
  "cniVersion": "0.4.0", "name": "pods", "plugins": [{
    "type": "ptp",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.77.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
  }]
}
"""


class Cri(Containerd):
    """containerd with its CRI plugin, with a handler for each runtime of RUNTIMES."""

    namespace = "k8s.io"

    def __init__(self, folder: Path, archives: list[Path]) -> None:
        version = command(require("containerd", "containerd"), "--version").out.split()[2].removeprefix("v")
        kind = "2.x" if version.startswith("2") else "1.x"
        runtimes = block(f"/etc/containerd/config.toml of containerd {kind}")
        restricted = str(not has_all_capabilities()).lower()
        self.configuration = CONFIGURATIONS[kind].format(runtimes=runtimes, pause=PAUSE, restricted=restricted)
        (folder / "cni").mkdir(parents=True)
        (folder / "cni/pods.conflist").write_text(NETWORK)
        self.ask = Client(folder / "socket")
        super().__init__(folder, "runc", archives[0])
        for archive in archives[1:]:
            self.ok("image", "import", archive)


class Ended(NamedTuple):
    """How a container ended, and what is in its log."""

    code: int
    reason: str
    out: str
    err: str


class Pod:
    """A pod of one handler. `security` is its security context, `linux` other fields beside that."""

    def __init__(self, cri: Cri, handler: str, logs: Path, *, security: Any = None, **linux: Any) -> None:
        self.cri = cri
        self.handler = handler
        self.logs = logs
        self.number = 0
        name = logs.name
        self.namespaces = {"network": NODE, "pid": CONTAINER}
        self.namespaces.update((security or {}).get("namespace_options", {}))
        self.config = {
            "metadata": {"name": name, "uid": name, "namespace": "tests"},
            "hostname": "a-pod" if self.namespaces["network"] != NODE else "",
            "log_directory": str(logs),
            "linux": {"security_context": {**(security or {}), "namespace_options": self.namespaces}, **linux},
        }
        self.id = cri.ask("RunPodSandbox", config=self.config, runtime_handler=handler).pod_sandbox_id

    def create(self, *command: str, security: Any = None, resources: Any = None, **config: Any) -> str:
        """Create a container. Returns its id; its log is `logs`/id of the pod."""
        self.number += 1
        name = str(self.number)
        context = {"namespace_options": self.namespaces, **(security or {})}
        whole = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": command,
            "log_path": name,
            "linux": {"security_context": context, "resources": resources or {}},
            **config,
        }
        asked = self.cri.ask("CreateContainer", pod_sandbox_id=self.id, config=whole, sandbox_config=self.config)
        (self.logs / asked.container_id).symlink_to(name)
        return str(asked.container_id)

    def start(self, *command: str, **config: Any) -> str:
        """Create and start one."""
        name = self.create(*command, **config)
        self.cri.ask("StartContainer", container_id=name)
        return name

    def status(self, container: str) -> Any:
        return self.cri.ask("ContainerStatus", container_id=container).status

    def wait(self, container: str) -> Ended:
        """Until it has ended."""
        status = eventually(lambda: (now := self.status(container)).state == EXITED and now, patience=60)
        return Ended(status.exit_code, status.reason, *map(self.log(container).get, ("stdout", "stderr")))

    def run(self, *command: str, **config: Any) -> Ended:
        return self.wait(self.start(*command, **config))

    def log(self, container: str) -> dict[str, str]:
        """What each stream has written."""
        found = {"stdout": "", "stderr": ""}
        file = self.logs / container
        for line in file.read_text().splitlines() if file.exists() else []:
            _time, stream, tag, text = line.split(" ", 3)
            found[stream] += text + ("\n" if tag == "F" else "")
        return found

    def exec(self, container: str, *command: str, timeout: int = 60) -> Any:
        return self.cri.ask("ExecSync", container_id=container, cmd=command, timeout=timeout)

    def shell(self, container: str, script: str) -> str:
        """What a script says that has to succeed."""
        done = self.exec(container, "sh", "-c", script)
        assert done.exit_code == 0, done
        return str(done.stdout.decode().rstrip("\n"))

    def clear(self) -> None:
        """Remove its containers, running or not."""
        for container in self.cri.ask("ListContainers").containers:
            if container.pod_sandbox_id == self.id:
                self.cri.ask("RemoveContainer", container_id=container.id)

    def remove(self) -> None:
        self.cri.ask("StopPodSandbox", pod_sandbox_id=self.id)
        self.cri.ask("RemovePodSandbox", pod_sandbox_id=self.id)


def processes(command: list[str]) -> list[str]:
    """The ids of all that run a command."""
    line = "".join(f"{word}\0" for word in command).encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == line:
                found.append(entry.name)
        except OSError:
            continue
    return found
