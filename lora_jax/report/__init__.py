"""Pages of results from the JSON in `results/runs`: the kit here, a file for each subject in `pages`."""
