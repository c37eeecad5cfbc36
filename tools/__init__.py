"""Programs for whoever works on Posthouse; it runs without them."""
