"""Configuration spaces: what can be tuned, read from an NNI search space, sampled, checked and encoded. No torch."""
