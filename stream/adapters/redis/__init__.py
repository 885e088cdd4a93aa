"""The stores in Redis (6.2 or newer), Valkey or a Redis Cluster."""
