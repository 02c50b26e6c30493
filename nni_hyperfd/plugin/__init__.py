"""What NNI talks to: thin adapters between its callbacks and the platform."""
