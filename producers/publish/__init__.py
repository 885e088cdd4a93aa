"""Publishing to Kafka: durable, at a rate, at a speed-up, or in event-time step with the consumers."""
