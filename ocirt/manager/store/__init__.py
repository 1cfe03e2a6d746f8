"""What the manager keeps on disk: bytes by their digest, and a database of what they are to each other."""
