"""Who makes a container is killed or stopped at every system call: ocirt itself, or init."""
