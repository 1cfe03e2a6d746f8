"""What init and the host call the points where they meet, and the descriptors that pass between them."""

SYNC_ATTACHED = 1
"""init needs the host to have put it into its cgroups."""
SYNC_READY = 2
"""Everything is done but the program's start; the answer fills the slots."""
SYNC_MAPPED = 3
"""init needs the host to have written the maps of its user namespace."""
SYNC_HOOKS = 4
"""All is mounted, and the old root still there: the host runs the hooks of `create`."""
SYNC_MAKE = 100000
"""And more: the index of a mount, whose destination the host has to make where a symlink points to nothing."""
SYNC_COPY = 1000
"""And more: the index of a mount, whose tmpfs the host has to fill."""

FD_PASSWD = 1
"""The container's /etc/passwd, O_PATH: the host looks up HOME in it."""
FD_TERMINAL = 2
"""The master of the container's terminal."""
FD_COPY_FROM = 3
"""A directory in the container, O_PATH …"""
FD_COPY_TO = 4
"""… and the root of the tmpfs that is to be mounted on it."""
FD_ROOT = 5
"""The container's root, O_PATH."""
