"""Pages of results: the kit that reads runs and writes pages; in `pages` a file for each subject."""
