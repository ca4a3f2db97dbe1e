"""Weir: accepts events, counts each exactly once, and can prove it."""
