"""A Gaussian process over data sets and configurations, and how trials are chosen by it: the variant ``hyperfd-gp``."""
