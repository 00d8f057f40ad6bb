"""Files of weights, and their tensors into a network."""
