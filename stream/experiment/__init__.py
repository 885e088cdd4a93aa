"""Progressive evaluation: predict, wait for the label, learn; many models side by side in one pass."""
