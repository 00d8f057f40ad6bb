"""Networks on a data set, and packed ones against trained ones."""
