"""The platform behind HTTP: the same calls and messages, for customers who do not trust each other."""
