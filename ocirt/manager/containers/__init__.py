"""Containers: what they are made of, and their life."""
