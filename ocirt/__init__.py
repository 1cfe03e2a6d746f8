"""ocirt: an OCI container runtime that compiles config.json into a list of system calls."""

__version__ = "0.1.0"
