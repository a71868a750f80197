"""Runs to tables: reads the JSON of runs and benchmarks, writes Markdown. Imports no JAX."""
