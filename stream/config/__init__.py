"""Settings, and what they make of the core."""
