"""Which layers bear binarization: what is measured, how it is ranked, what a budget buys."""
