"""What a recipe says, and every knob of training; torch-free."""
