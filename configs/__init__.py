"""One file for each family of runs: `get_config(arg)` and `sweep(arg)`; `_base*` is shared."""
