"""The numbers of the LoRA paper (arXiv 2106.09685 v2) and of its authors' scripts: data alone.

Every number stands here once and names its table, section or script. `printed` has the tables of
results, `entries` what each of their rows trains, `settings` the tables of hyperparameters,
`scripts` what the authors' repository has in their place, `claims` section 4.2, `replications` what
others published of the same rows, `intrinsic` and `successors` what came before and after, and
`translation` the paper's names in this code's.
"""
