"""What a detector finds on a split, its average precision, and pictures of it."""
