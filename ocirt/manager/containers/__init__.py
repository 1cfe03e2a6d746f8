"""Containers: what they were asked to be, what becomes of it, and what they are."""
