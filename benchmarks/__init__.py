"""Scripts that measure; everything a document states comes from one of them."""
