"""Data set -> image-level features (``profile``, on the customer's machine) -> meta-feature (``extractor``).

Nothing is imported here on purpose: the platform needs the extractor, but must not load ``profile``, which opens images.
"""
