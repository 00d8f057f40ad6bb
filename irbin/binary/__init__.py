"""The method: Libra-PB, EDE, and the layers that train with them."""
