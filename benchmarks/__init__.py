"""What riverwatch costs, measured: each module prints a table."""

from infra import compiled_modules as compiled

compiled.use()  # as `riverwatch` does: both sides of every comparison run the same arithmetic
