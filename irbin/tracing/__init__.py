"""What is known of a float network's layers."""
