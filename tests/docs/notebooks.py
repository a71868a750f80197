"""Runs notebooks without Jupyter, and writes what their cells print and draw.

  python -m tests.docs.notebooks docs/notebooks/own_model.ipynb      # at its own size, in place

A cell with the tag `parameters` holds the sizes, as Papermill has it; a test replaces them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

Cell = dict[str, Any]


def execute(path: Path, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
  """The notebook with the outputs of all cells, run in order in one namespace.

  Args:
    path: the notebook.
    parameters: values of names that the cell tagged `parameters` assigns.

  Raises:
    ValueError: for a parameter that this cell does not assign.
    Exception: what a cell raises; its traceback names the notebook and the cell.
  """
  notebook = json.loads(path.read_text(encoding='utf-8'))
  names: dict[str, object] = {'__name__': '__main__'}
  backend = matplotlib.get_backend()
  plt.switch_backend('agg')
  try:
    for number, cell in enumerate(notebook['cells']):
      if cell['cell_type'] == 'code':
        cell['outputs'] = _run(cell, names, f'{path.name}[{number}]')
        if 'parameters' in cell['metadata'].get('tags', ()):
          if unknown := (parameters or {}).keys() - names.keys():
            raise ValueError(f'{path.name} has no parameters {sorted(unknown)}')
          names |= parameters or {}
  finally:
    plt.close('all')
    plt.switch_backend(backend)
  return notebook


def _run(cell: Cell, names: dict[str, object], where: str) -> list[Cell]:
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    exec(compile(''.join(cell['source']), where, 'exec'), names)
  outputs = []
  if text := printed.getvalue():
    lines = text.splitlines(keepends=True)
    outputs.append({'name': 'stdout', 'output_type': 'stream', 'text': lines})
  for number in plt.get_fignums():
    picture = io.BytesIO()
    plt.figure(number).savefig(picture, dpi=80, bbox_inches='tight', metadata={'Software': None})
    png = base64.b64encode(picture.getvalue()).decode()
    data = {'image/png': png, 'text/plain': ['<Figure>']}
    outputs.append({'data': data, 'metadata': {}, 'output_type': 'display_data'})
    plt.close(number)
  return outputs


def write(path: Path) -> None:
  """Runs a notebook at its own size and keeps the outputs in it."""
  notebook = execute(path)
  count = 0
  for cell in notebook['cells']:
    if cell['cell_type'] == 'code':
      count += 1
      cell['execution_count'] = count
  path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + '\n', encoding='utf-8')


if __name__ == '__main__':
  for name in sys.argv[1:]:
    write(Path(name))
