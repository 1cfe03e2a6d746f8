"""ocim, the manager above the runtime: images, registries, containers that one deals with by name.

It uses the runtime through `import ocirt` and the executable only, and nothing below imports it.
"""
