"""A face detector and nothing else: annotated images in, a fine-tuned detector and its AP@50 out.

This is the only floor of the house that opens images. Nothing here talks to the platform.
"""
