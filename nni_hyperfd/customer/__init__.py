"""The customer's half of the protocol: his features, his connection to the platform, what waits and what left."""
