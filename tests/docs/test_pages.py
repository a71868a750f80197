"""Every block of code of every page runs, and every command parses; so these pages cannot rot."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs import pages

GOLDEN = pages.ROOT / 'tests' / 'golden'
# What pages find in their folder, as their reader would: toys of the published models' layout.
FOLDERS = {
  'models/encoder': 'models/bert',
  'models/roberta': 'models/roberta',
  'models/smollm2': 'models/llama',
  'out/mnli-peft': 'adapters/peft.roberta.rslora',
}
PAGES = {path.relative_to(pages.DOCS).as_posix(): path for path in pages.sources()}


@pytest.fixture
def place(tmp_path, monkeypatch):
  """A folder with the models and adapters that the pages name, as the working directory."""
  for name, source in FOLDERS.items():
    shutil.copytree(GOLDEN / source, tmp_path / name)
  monkeypatch.chdir(tmp_path)
  return tmp_path


@pytest.mark.parametrize('name', PAGES)
def test_the_code_of_a_page_runs(name, place):
  text = PAGES[name].read_text()
  assert pages.run(PAGES[name]) == len(re.findall(r'^\s*```python', text, re.M))


def test_the_commands_of_all_pages_parse():
  lines = pages.commands()
  assert {line.split()[2] for line in lines.values() if line.startswith('python -m')} > {
    'experiments.train', 'experiments.reproduce', 'experiments.serve', 'experiments.plan',
  }  # fmt: skip
  done = subprocess.run(
    [sys.executable, '-m', 'tests.docs.commands'],
    input=json.dumps({**lines, 'planted': 'python -m experiments.train --workdr=x'}),
    capture_output=True,
    cwd=pages.ROOT,
    text=True,
    check=True,
  )
  found = json.loads(done.stdout)
  assert 'workdr' in found.pop('planted')
  assert found == {}


WRONG = {
  'a block that nobody would run': '```py\nx = 1\n```\n',
  'a block of a shell': '```bash\nls\n```\n',
  'indented code': 'Like this:\n\n    x = 1\n',
  'a fence that stays open': '```python\nx = 1\n',
  'options of a fence': '```python notest\nx = 1\n```\n',
  'Python in a directive': '```{code-block} python\n:caption: a.py\nx = 1\n```\n',
  'a file without a name': '```{code-block} csv\na,b\n```\n',
}


@pytest.mark.parametrize('case', WRONG)
def test_code_that_would_not_be_run_is_refused(case):
  with pytest.raises(ValueError, match='line'):
    pages.blocks(f'# Title\n\n{WRONG[case]}')


@pytest.mark.parametrize(
  'text, error',
  [
    ('```python\nx = 1\n```\n\n```python\nprint(x / 0)\n```\n', ZeroDivisionError),
    ('```python\nprint(1)\n```\n\n```output\n2\n```\n', AssertionError),
    ('```python\nprint(1)\n```\n\n```output\n1\n2...\n```\n', AssertionError),
  ],
)
def test_a_wrong_block_fails(text, error, tmp_path):
  (tmp_path / 'page.md').write_text(text)
  with pytest.raises(error):
    pages.run(tmp_path / 'page.md')


SHARED = """# A page

```{code-block} csv
:caption: in/a.csv

1,2
```

```python
import pathlib

text = pathlib.Path('in/a.csv').read_text()
```

Then:

```python
print(text, 'and some more')
```

```output
1,2
...more
```
"""


def test_the_blocks_of_a_page_share_names_and_files(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'page.md').write_text(SHARED)
  assert pages.run(tmp_path / 'page.md') == 2


def test_commands_are_joined_and_their_comments_left_out():
  text = 'python -m a --x=1 \\\n    --y=2   # a comment\n\n# nothing\n$ make demo\n'
  assert list(pages.shell_lines(text)) == ['python -m a --x=1 --y=2', 'make demo']
