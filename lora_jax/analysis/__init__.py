"""What the updates that LoRA learned look like: sections 7.2 and 7.3 of the paper, and appendix H.

`factors` takes the updates out of what was trained; `subspace`, `spectra` and `amplification` are
the definitions, on plain matrices; `single` and `pair` measure one run and two. All is NumPy in
float64: the matrices are small, and singular vectors of float32 depend on the library's rounding.
"""
