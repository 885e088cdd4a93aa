"""Looking at an installation from the side: an entity, a decision, its quality, its status."""
