"""`riverwatch rebuild`: what Redis lost, from Kafka again, to the same bits."""
