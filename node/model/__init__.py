"""What the node knows: packages, publishers, names and the catalogue."""
