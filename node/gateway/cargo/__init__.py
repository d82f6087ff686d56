"""Cargo: the sparse index and its crates."""
