"""Registries: distribution-spec 1.1 and Docker's API v2 as a client, and who may see which credentials."""
