"""The toolchain: what is pinned, how it is built, where it is found. Standard library only."""
