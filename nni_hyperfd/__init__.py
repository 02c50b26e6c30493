"""HyperFD for NNI: recommends how to train a face detector on data that never leave their owner."""
