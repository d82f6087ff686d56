"""`caravan run`: a command whose package managers ask this node."""
