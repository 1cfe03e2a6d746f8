"""The process beside each container: it keeps output, exit status, restarts and health checks, and outlives ocim.

It runs as `python3 -I -S` and imports only what is built into Python, `_socket` and `select`: a hundred containers are
a hundred of these.
"""
