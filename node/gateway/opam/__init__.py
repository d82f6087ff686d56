"""opam: the repository of package descriptions and its archives."""
