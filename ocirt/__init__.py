"""ocirt: an OCI container runtime that compiles config.json into a list of system calls.

>>> import ocirt
>>> with ocirt.Container.run("/srv/bundle", stdout=ocirt.PIPE) as container:
...     out, _ = container.communicate()

`ocirt.aio` has the same for asyncio, `ocirt.sandbox` runs untrusted code in one call. Every failure is an `Error`.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ocirt.errors import ConfigError as ConfigError
    from ocirt.errors import ContainerError as ContainerError
    from ocirt.errors import Error as Error
    from ocirt.errors import HookError as HookError
    from ocirt.errors import KernelError as KernelError
    from ocirt.errors import NotFoundError as NotFoundError
    from ocirt.errors import PlanError as PlanError
    from ocirt.errors import UnsupportedError as UnsupportedError
    from ocirt.errors import UsageError as UsageError
    from ocirt.library.container import Container as Container
    from ocirt.library.container import Process as Process
    from ocirt.library.documents import default_config as default_config
    from ocirt.library.stdio import DEVNULL as DEVNULL
    from ocirt.library.stdio import PIPE as PIPE
    from ocirt.library.stdio import STDOUT as STDOUT

_ERRORS = (
    *("Error", "ConfigError", "UnsupportedError", "UsageError", "ContainerError", "NotFoundError", "KernelError"),
    *("HookError", "PlanError"),
)
_PLACES = {
    **dict.fromkeys(_ERRORS, "ocirt.errors"),
    **dict.fromkeys(("Container", "Process"), "ocirt.library.container"),
    "default_config": "ocirt.library.documents",
    **dict.fromkeys(("PIPE", "STDOUT", "DEVNULL"), "ocirt.library.stdio"),
}
__all__ = ["DEVNULL", "PIPE", "STDOUT", "Container", "Process", "default_config", *_ERRORS]


def __getattr__(name: str) -> object:
    """What is offered is loaded when it is first asked for: the command line needs none of it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ocirt' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_PLACES[name]), name)
    globals()[name] = found
    return found
