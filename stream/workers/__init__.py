"""The workers: score, learn, monitor."""
