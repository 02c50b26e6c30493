"""AutoHAS (Dong et al., 2020): architecture and training hyper-parameters searched by gradient, in one training."""
