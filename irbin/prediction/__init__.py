"""What a network says of pictures that are in no data set."""
