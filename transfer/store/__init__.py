"""The store: artifacts on disk, named by their SHA-256, and the index of them."""
