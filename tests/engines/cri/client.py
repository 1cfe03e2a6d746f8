"""A client of the Container Runtime Interface.

Of the interface's messages there stand here only the fields that the tests use. Their numbers are those of the
published protocol, `runtime.v1`; what is not listed is skipped in answers. The encoding is that of Protocol Buffers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from ocirt.host.criu_wire import read_varint, varint

if TYPE_CHECKING:
    from pathlib import Path

# name=number:type; a type is string (left out), bytes, int, bool or a message; `*` is before one that repeats.
FIELDS = """\
Pair key=1 value=2
Number value=1:int
Condition type=1 status=2:bool reason=3 message=4
Conditions conditions=1:*Condition
HandlerFeatures recursive_read_only_mounts=1:bool user_namespaces=2:bool
Handler name=1 features=2:HandlerFeatures
IDMapping host_id=1:int container_id=2:int length=3:int
UserNamespace mode=1:int uids=2:*IDMapping gids=3:*IDMapping
Namespaces network=1:int pid=2:int ipc=3:int target_id=4 userns_options=5:UserNamespace
Profile profile_type=1:int localhost_ref=2
SandboxSecurity namespace_options=1:Namespaces run_as_user=3:Number privileged=6:bool seccomp=9:Profile
SandboxLinux cgroup_parent=1 security_context=2:SandboxSecurity sysctls=3:*Pair
SandboxMetadata name=1 uid=2 namespace=3
SandboxConfig metadata=1:SandboxMetadata hostname=2 log_directory=3 linux=8:SandboxLinux
SandboxNetwork ip=1
SandboxStatus id=1 state=3:int network=5:SandboxNetwork runtime_handler=9
Sandbox id=1 state=3:int runtime_handler=7
Image image=1
Mount container_path=1 host_path=2 readonly=3:bool propagation=5:int recursive_read_only=8:bool
Device container_path=1 host_path=2 permissions=3
Resources cpu_period=1:int cpu_quota=2:int cpu_shares=3:int memory_limit_in_bytes=4:int \
 oom_score_adj=5:int cpuset_cpus=6
Capabilities add_capabilities=1:* drop_capabilities=2:*
Security capabilities=1:Capabilities privileged=2:bool namespace_options=3:Namespaces run_as_user=5:Number \
 run_as_username=6 readonly_rootfs=7:bool supplemental_groups=8:*int no_new_privs=11:bool run_as_group=12:Number \
 masked_paths=13:* readonly_paths=14:* seccomp=15:Profile
ContainerLinux resources=1:Resources security_context=2:Security
ContainerMetadata name=1 attempt=2:int
ContainerConfig metadata=1:ContainerMetadata image=2:Image command=3:* args=4:* working_dir=5 envs=6:*Pair \
 mounts=7:*Mount devices=8:*Device log_path=11 stdin=12:bool tty=14:bool linux=15:ContainerLinux
ContainerState id=1 state=3:int created_at=4:int started_at=5:int finished_at=6:int exit_code=7:int reason=10 message=11
Container id=1 pod_sandbox_id=2 state=6:int
Cpu usage_core_nano_seconds=2:Number
Memory working_set_bytes=2:Number
Statistics cpu=2:Cpu memory=3:Memory
VersionRequest version=1
VersionResponse runtime_name=2 runtime_api_version=4
StatusRequest verbose=1:bool
StatusResponse status=1:Conditions runtime_handlers=3:*Handler
RunPodSandboxRequest config=1:SandboxConfig runtime_handler=2
RunPodSandboxResponse pod_sandbox_id=1
StopPodSandboxRequest pod_sandbox_id=1
StopPodSandboxResponse
RemovePodSandboxRequest pod_sandbox_id=1
RemovePodSandboxResponse
PodSandboxStatusRequest pod_sandbox_id=1
PodSandboxStatusResponse status=1:SandboxStatus
ListPodSandboxRequest
ListPodSandboxResponse items=1:*Sandbox
CreateContainerRequest pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:SandboxConfig
CreateContainerResponse container_id=1
StartContainerRequest container_id=1
StartContainerResponse
StopContainerRequest container_id=1 timeout=2:int
StopContainerResponse
RemoveContainerRequest container_id=1
RemoveContainerResponse
ListContainersRequest
ListContainersResponse containers=1:*Container
ContainerStatusRequest container_id=1
ContainerStatusResponse status=1:ContainerState
ExecSyncRequest container_id=1 cmd=2:* timeout=3:int
ExecSyncResponse stdout=1:bytes stderr=2:bytes exit_code=3:int
UpdateContainerResourcesRequest container_id=1 linux=2:Resources
UpdateContainerResourcesResponse
ContainerStatsRequest container_id=1
ContainerStatsResponse stats=1:Statistics
ReopenContainerLogRequest container_id=1
ReopenContainerLogResponse
"""


class Field(NamedTuple):
    number: int
    kind: str
    repeated: bool


def _field(text: str) -> tuple[str, Field]:
    name, _, rest = text.partition("=")
    number, _, kind = rest.partition(":")
    return name, Field(int(number), kind.lstrip("*") or "string", kind.startswith("*"))


MESSAGES = {words[0]: dict(map(_field, words[1:])) for words in map(str.split, FIELDS.splitlines())}


def encode(message: str, values: dict[str, Any]) -> bytes:
    """A message of MESSAGES. `values`: by field; messages are dicts as well, what repeats is a list."""
    out = b""
    for name, value in values.items():
        number, kind, repeated = MESSAGES[message][name]
        for one in value if repeated else [value]:
            if kind in ("int", "bool"):
                out += varint(number << 3) + varint(one)
                continue
            content = one if kind == "bytes" else one.encode() if kind == "string" else encode(kind, one)
            out += varint(number << 3 | 2) + varint(len(content)) + content
    return out


def _parts(data: bytes) -> list[tuple[int, int | bytes]]:
    """(field number, a number or bytes) in the order in which they stand there."""
    at = 0
    found: list[tuple[int, int | bytes]] = []
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
            found.append((key >> 3, value - (1 << 64) if value >> 63 else value))
            continue
        size = {1: 8, 5: 4}.get(key & 7, 0)
        if key & 7 == 2:
            size, at = read_varint(data, at)
        found.append((key >> 3, data[at : at + size]))
        at += size
    return found


def decode(message: str, data: bytes) -> SimpleNamespace:
    """A message as an object with all fields of MESSAGES; those that were not sent are empty."""
    parts = _parts(data)

    def value(kind: str, raw: Any) -> Any:
        if kind == "string":
            return raw.decode()
        if kind == "bool":
            return bool(raw)
        return raw if kind in ("int", "bytes") else decode(kind, raw)

    answer = SimpleNamespace()
    for name, (number, kind, repeated) in MESSAGES[message].items():
        sent = [value(kind, raw) for key, raw in parts if key == number]
        nothing = value(kind, 0 if kind in ("int", "bool") else b"")
        setattr(answer, name, sent if repeated else sent[-1] if sent else nothing)
    return answer


class Client:
    """The runtime service behind a socket, which need not be there yet."""

    def __init__(self, socket: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix:{socket}")

    def __call__(self, method: str, **request: Any) -> Any:
        """Call a method, such as Version. An error is a grpc.RpcError."""
        call = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}")
        answer = call(encode(f"{method}Request", request), timeout=120, wait_for_ready=True)
        return decode(f"{method}Response", answer)
