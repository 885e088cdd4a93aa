"""`riverwatch verify`: every promise computed again from the topics and Redis."""
