"""The monitor worker."""
