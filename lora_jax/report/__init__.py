"""Pages of results: the kit to read runs and write pages, and in `pages` a file by subject; no JAX."""
