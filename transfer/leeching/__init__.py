"""Leeching: download an artifact from many peers at once."""
