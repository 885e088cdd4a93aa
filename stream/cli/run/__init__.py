"""Commands that run something: services, workers, producers, the demo."""
