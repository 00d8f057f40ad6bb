"""The border that zero padding puts around an image."""

Border = tuple[int, int, int, int]
"""(left, right, top, bottom) in pixels, the order of `torch.nn.functional.pad`."""
