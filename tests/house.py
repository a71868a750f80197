"""Counts of the source: what the tests of its structure and a review hold on to.

python -m tests.house        # prints the counts
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'lora_jax'
# A newcomer reads these, in this order.
READING_PATH = ('tree', 'methods/base', 'methods/lora', 'train/step', 'train/loop')
BLOCKS = (
  ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.For, ast.While,
  ast.With, ast.Try, ast.Match,
)  # fmt: skip


def sources(root: Path = PACKAGE) -> list[Path]:
  """The Python files below a folder."""
  return sorted(root.rglob('*.py'))


def parse(path: Path) -> ast.Module:
  """A file's syntax tree."""
  return ast.parse(path.read_text(encoding='utf-8'), str(path))


def functions(root: Path = PACKAGE) -> Iterator[tuple[str, int, int]]:
  """(`file:name`, lines, deepest nesting of statements) of each function below a folder."""
  for path in sources(root):
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        name = f'{path.relative_to(root.parent)}:{node.name}'
        yield name, (node.end_lineno or 0) - node.lineno + 1, depth(node.body)


def depth(body: list[ast.stmt]) -> int:
  """Levels of blocks below statements: 0 for plain ones, 1 for an `if` that holds plain ones."""
  return max((_levels(statement) for statement in body), default=0)


def _levels(node: ast.stmt) -> int:
  if not isinstance(node, BLOCKS):
    return 0
  inner = list(getattr(node, 'body', []))
  for handler in getattr(node, 'handlers', []) + getattr(node, 'cases', []):
    inner += handler.body
  inner += getattr(node, 'finalbody', [])
  below = 1 + depth(inner)
  orelse = getattr(node, 'orelse', [])
  is_elif = isinstance(node, ast.If) and len(orelse) == 1 and isinstance(orelse[0], ast.If)
  return max(below, depth(orelse) if is_elif else 1 + depth(orelse)) if orelse else below


def names(identifier: str, root: Path = PACKAGE) -> dict[str, int]:
  """How often a file uses a name or an attribute, by file; imports count for nothing."""
  found = {}
  for path in sources(root):
    used = sum(
      (isinstance(node, ast.Name) and node.id == identifier)
      or (isinstance(node, ast.Attribute) and node.attr == identifier)
      for node in ast.walk(parse(path))
    )
    if used:
      found[path.relative_to(root).as_posix()] = used
  return found


def unencoded(root: Path = PACKAGE) -> list[str]:
  """`file:line` of each text file that is read or written in the encoding of the machine's locale.

  Of methods called `open` those count that get a mode alone, as a path's; others open other things.
  """
  found = []
  for path in sources(root):
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.Call) and not any(word.arg == 'encoding' for word in node.keywords):
        match node.func:
          case ast.Attribute(ast.Name('writers' | 'files')):
            text = False  # The package's own functions, which write UTF-8.
          case ast.Attribute(attr='read_text' | 'write_text'):
            text = True
          case ast.Attribute(attr='open') if len(node.args) < 2:
            mode = node.args[0] if node.args else ast.Constant('r')
            text = isinstance(mode, ast.Constant) and 'b' not in str(mode.value)
          case ast.Name('open'):
            text = not any(
              'b' in str(x.value) for x in node.args[1:] if isinstance(x, ast.Constant)
            )
          case _:
            text = False
        if text:
          found.append(f'{path.relative_to(root.parent)}:{node.lineno}')
  return found


def training_loops(root: Path = PACKAGE) -> list[str]:
  """Functions with a loop in which a state advances: a call of `advance` or of a train step."""
  found = []
  for path in sources(root):
    for function in ast.walk(parse(path)):
      if isinstance(function, ast.FunctionDef) and any(_advances(x) for x in ast.walk(function)):
        found.append(f'{path.relative_to(root).as_posix()}:{function.name}')
  return found


def _advances(node: ast.AST) -> bool:
  if not isinstance(node, ast.For | ast.While):
    return False
  called = (call.func for call in ast.walk(node) if isinstance(call, ast.Call))
  attributes = [x.attr if isinstance(x, ast.Attribute) else getattr(x, 'id', '') for x in called]
  return any(re.fullmatch(r'advance|_?train_step', name) for name in attributes)


def modules(root: Path = PACKAGE) -> dict[str, set[str]]:
  """By module the modules of the package that it imports when it is imported itself."""
  package = root.name
  known = {dotted(path, root): path for path in sources(root)}
  graph: dict[str, set[str]] = {}
  for name, path in known.items():
    targets: set[str] = set()
    for node in ast.walk(parse(path)):
      if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == package:
        for alias in node.names:
          inner = f'{node.module}.{alias.name}'
          targets.add(inner if inner in known else str(node.module))
      elif isinstance(node, ast.Import):
        targets |= {alias.name for alias in node.names if alias.name in known}
    guarded = _type_checking_imports(path, known)
    # A package's __init__ gathers its own modules' names; that is no step back.
    graph[name] = {x for x in targets - guarded if not name.startswith(f'{x}.')} - {name}
  return graph


def _type_checking_imports(path: Path, known: dict[str, Path]) -> set[str]:
  found: set[str] = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.dump(node.test):
      for inner in ast.walk(node):
        if isinstance(inner, ast.ImportFrom):
          for alias in inner.names:
            dotted_name = f'{inner.module}.{alias.name}'
            found.add(dotted_name if dotted_name in known else str(inner.module))
  return found


def dotted(path: Path, root: Path = PACKAGE) -> str:
  """`lora_jax.train.loop` of its file; a package for its `__init__.py`."""
  parts = path.relative_to(root.parent).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
  """Groups of modules that import each other, found as strongly connected components."""
  reach = {name: _reachable(graph, name) for name in graph}
  found = {
    tuple(sorted(x for x in reach[name] if x in graph and name in reach[x])) for name in graph
  }
  return [list(group) for group in sorted(found) if len(group) > 1]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
  seen, waiting = set(), [start]
  while waiting:
    for name in graph.get(waiting.pop(), ()):
      if name not in seen:
        seen.add(name)
        waiting.append(name)
  return seen


def untested(root: Path = PACKAGE, tests: Path = ROOT / 'tests') -> set[str]:
  """The modules below a folder (`train/loop`) that have no test file of their name."""
  names = {path.relative_to(root).with_suffix('') for path in sources(root)}
  return {
    name.as_posix()
    for name in names
    if name.name != '__init__' and not (tests / name.parent / f'test_{name.name}.py').exists()
  }


def reading_path_lines() -> int:
  """Lines of the files that a newcomer reads."""
  return sum(len((PACKAGE / f'{name}.py').read_text().splitlines()) for name in READING_PATH)


def main() -> None:
  by_length = sorted(functions(), key=lambda x: -x[1])
  by_depth = sorted(functions(), key=lambda x: -x[2])
  print('package lines      ', sum(len(p.read_text().splitlines()) for p in sources()))
  print('training loops     ', training_loops())
  print('longest functions  ', [(name, lines) for name, lines, _ in by_length[:4]])
  print('deepest functions  ', [(name, levels) for name, _, levels in by_depth[:4]])
  print('Any                ', sum(names('Any').values()))
  print('get_close_matches  ', names('get_close_matches'))
  print('fsync              ', names('fsync'))
  print('import circles     ', circles(modules()))
  print('reading path       ', reading_path_lines())
  print('without a test file', sorted(untested()))
  skips = sum(p.read_text().count('fmt: skip') for p in sources(ROOT / 'lora_jax'))
  print('fmt: skip (package)', skips)


if __name__ == '__main__':
  main()
