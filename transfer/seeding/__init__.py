"""Seeding: serve what the store holds to whoever asks for it."""
