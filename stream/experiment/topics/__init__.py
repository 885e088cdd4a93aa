"""An experiment over an installation's own topics."""
