"""What becomes of every layer, and what that gains; torch-free."""
