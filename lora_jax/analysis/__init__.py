"""Analysis of the updates that LoRA learns: sections 7.2 and 7.3 of the paper, and appendix H.

`factors` extracts the updates from trained parameters. `subspace`, `spectra` and `amplification`
hold the definitions, for plain matrices. `single` and `pair` measure one run and two. Everything is
NumPy in float64: the matrices are small, and singular vectors in float32 depend on the library's
rounding.
"""
