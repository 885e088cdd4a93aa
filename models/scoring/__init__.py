"""What scores: the default model, its parts, River models behind the same interface, and signed snapshots."""
