"""Content: digests, manifests, chunk bitmaps and hashing. No I/O beyond open files."""
