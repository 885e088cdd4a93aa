"""Decisions on this machine's disk."""
