"""News: publish releases, find the newest, and alert those who need it."""
