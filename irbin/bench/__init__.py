"""Networks and training steps, measured."""
