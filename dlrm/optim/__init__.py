"""Dense optimizers and the learning-rate schedule."""
