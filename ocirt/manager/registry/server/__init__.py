"""A registry of one's own: distribution-spec 1.1 as a server, into the store that pulled images are in.

`serve(site, options)` in `server` is what `ocim registry serve` calls. What waits for the network is asyncio; what
waits for the disk or the database runs in threads (`Service.run`).
"""
