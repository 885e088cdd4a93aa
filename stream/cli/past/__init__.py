"""Commands over the past: experiment, replay, rebuild."""
