"""The performance ranker F(c, d) = <G(d), H(c)>, its losses, and how it keeps learning. Sees no image and no detector."""
