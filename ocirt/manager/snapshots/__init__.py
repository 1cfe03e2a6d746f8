"""Root file systems: layers unpacked, put together for a container, and what the container made of them."""
