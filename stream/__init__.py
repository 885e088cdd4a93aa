"""What moves: the Faust side."""
