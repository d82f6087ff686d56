"""Seeding: serve what the store holds."""
