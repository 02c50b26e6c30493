"""The detector's network: backbone, neck and heads, remapping, weights, export."""
