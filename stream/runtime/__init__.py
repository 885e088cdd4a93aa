"""Faust in batches: consuming, acknowledging, committing, and what is logged meanwhile."""
