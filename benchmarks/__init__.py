"""What riverwatch costs, measured: each module prints a table."""
