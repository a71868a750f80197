"""The packages of a wheel; all else about it is in pyproject.toml.

`lora_jax` alone stands at the top. The commands and their configs, which a checkout has beside it,
are put inside of it, in `lora_jax/_commands` (`lora_jax/__main__.py` runs them).
"""

from setuptools import find_namespace_packages, setup

INSIDE = 'lora_jax._commands'
BESIDE = ('configs', 'experiments')
RESULTS = 'results.runs'  # For baselines.json, which the pages of all runs show.

inner = [*find_namespace_packages(include=[f'{name}*' for name in BESIDE]), RESULTS]
setup(
  packages=[
    *find_namespace_packages(include=['lora_jax*']),
    *(f'{INSIDE}.{name}' for name in inner),
  ],
  package_dir={f'{INSIDE}.{name}': name.replace('.', '/') for name in (*BESIDE, RESULTS)},
  package_data={'lora_jax': ['py.typed'], f'{INSIDE}.{RESULTS}': ['baselines.json']},
)
