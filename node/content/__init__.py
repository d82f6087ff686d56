"""Bytes: fetch, share, pin, clean, and what is offered to others."""
