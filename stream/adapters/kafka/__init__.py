"""Topics: made and checked, written durably, read from the side."""
