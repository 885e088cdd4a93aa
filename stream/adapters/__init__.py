"""The adapters of the ports: Kafka, Redis, memory, disk."""
