"""Commands about ocim itself."""

from __future__ import annotations

import sys

from ocirt.manager.cli.grammar import Value
from ocirt.manager.cli.help import of_words


def version(values: dict[str, Value], arguments: list[str]) -> None:
    import ocirt
    from ocirt.manager.cli.output import show

    facts = {"Version": ocirt.__version__, "Python": sys.version.partition(" ")[0]}
    if values["format"]:
        show(facts, str(values["format"]))
    else:
        sys.stdout.write(f"ocim {ocirt.__version__}\n")


def help_(values: dict[str, Value], arguments: list[str]) -> None:
    sys.stdout.write(of_words(arguments))


def info(values: dict[str, Value], arguments: list[str]) -> None:
    import os
    import time

    import ocirt
    from ocirt.manager.cli.here import settings_file, site
    from ocirt.manager.cli.output import show
    from ocirt.manager.containers import state as states
    from ocirt.manager.containers.launch import runtime
    from ocirt.manager.containers.records import Records

    here = site()
    found = [states.read(here, record).status for record in Records(here.database)]
    system = os.uname()
    facts: dict[str, object] = {
        "Containers": len(found),
        "ContainersRunning": found.count("running"),
        "ContainersPaused": found.count("paused"),
        "ContainersStopped": len(found) - found.count("running") - found.count("paused"),
        "Images": len({image.target.digest for image in here.images}),
        "Driver": here.snapshots.driver.name,
        "OcimRootDir": str(here.root),
        "OcimRunDir": str(here.run),
        "Runtime": runtime(here)[0],
        "RegistriesFile": str(settings_file()),
        "Name": system.nodename,
        "KernelVersion": system.release,
        "Architecture": system.machine,
        "NCPU": os.cpu_count() or 0,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "SystemTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "Version": ocirt.__version__,
    }
    if values["format"]:
        show(facts, str(values["format"]))
        return
    width = max(map(len, facts)) + 2
    sys.stdout.writelines(f"{f'{name}:':<{width}}{value}\n" for name, value in facts.items())
