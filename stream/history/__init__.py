"""What an installation's logs say, read once and for all."""
