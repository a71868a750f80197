"""One file for each family of experiments, `get_config(arg)` and `sweep(arg)`; `_base*` is shared."""
