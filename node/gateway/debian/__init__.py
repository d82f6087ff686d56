"""Debian: signed index files and the packages that they name."""
