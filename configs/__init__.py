"""One file per family of experiments: `get_config(arg)`, `sweep()`."""
