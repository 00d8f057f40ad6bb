"""Records as one self-contained HTML file, for people who read, print and pass on."""
