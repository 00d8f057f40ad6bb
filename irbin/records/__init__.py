"""The frozen records that cross from one stage to the next; torch-free, printable, saved as JSON.

Each says who makes it and who reads it.
"""
