"""What to try next: the ranking of the paper, and the expectation of a Gaussian process."""
