"""The mirror of every sensor's state in Redis, and which tier owns the sensor."""
