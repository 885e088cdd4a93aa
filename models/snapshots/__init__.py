"""How a model is stored, signed and opened again."""
