"""Payments from files: columns mapped, values read, every row published or counted with its reason."""
