"""What riverwatch costs, measured: each module prints a table."""

from models import compiled

compiled.use()  # as `riverwatch` does: both sides of every comparison run the same arithmetic
