"""ocirt as a library: containers as objects. What it offers is in `ocirt` itself, and for asyncio in `ocirt.aio`."""
