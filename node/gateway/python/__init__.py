"""Python: the simple repository API of pip, uv and poetry."""
