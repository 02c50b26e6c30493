"""Pages for people: what was read before training, and what came of it; each one HTML file that needs nothing else."""
