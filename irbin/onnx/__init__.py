"""A packed network as an ONNX file of standard operators, and such a file as a network."""
