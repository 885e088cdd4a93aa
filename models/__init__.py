"""What is learned: River only, never an import of `stream`."""
