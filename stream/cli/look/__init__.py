"""Commands that look at an installation and change nothing."""
