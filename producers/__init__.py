"""What feeds the stream."""
