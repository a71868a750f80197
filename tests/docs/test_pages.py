"""Every block of code of every page runs, and every command parses; so these pages cannot rot."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import pytest

from lora_jax.pretrained import huggingface
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


@pytest.fixture
def models(place):
  """Untrained models in place of the toys, with tokenizers and room for the texts of pages."""
  sizes = {'hidden_size': 16, 'num_layers': 2, 'num_heads': 2, 'max_positions': 256}
  words = '[PAD] [UNK] [CLS] [SEP] [MASK] the plot was good bad a very film not cast is score , one'
  vocabulary = place / 'vocab.txt'
  vocabulary.write_text('\n'.join(words.split()) + '\n')
  chats = GOLDEN / 'chats'
  template = place / 'chat_template.jinja'
  template.write_text(json.loads((chats / 'chats.json').read_text())['chatml']['template'])
  made = {
    'encoder': ('bert', {'vocab_size': 32, 'intermediate_size': 32}, [vocabulary]),
    'smollm2': (
      'llama',
      {'vocab_size': 304, 'num_kv_heads': 1, 'head_width': 8, 'intermediate_size': 32},
      [chats / 'tokenizer.json', chats / 'tokenizer_config.json', template],
    ),
  }
  for name, (family, own, files) in made.items():
    task = {'task': 'lm'} if family == 'llama' else {'task': 'classification', 'num_labels': 2}
    shutil.rmtree(place / 'models' / name)
    huggingface.save_model(
      place / 'models' / name,
      *huggingface.fresh_model({'family': family, **sizes, **own}, **task),
      tokenizer_files=files,
    )
  (place / 'configs').symlink_to(pages.ROOT / 'configs')
  return place


@pytest.mark.slow  # Six commands, each of which compiles its programs.
def test_the_commands_on_own_data_do_what_the_page_says(models):
  def shell(command):
    if command.startswith('python -m'):
      words = [sys.executable, *shlex.split(command)[1:]]
      environment = os.environ | {'PYTHONPATH': str(pages.ROOT)}
      done = subprocess.run(words, env=environment, capture_output=True, text=True)
      assert done.returncode == 0, done.stderr
      printed.append(done.stdout)

  printed: list[str] = []
  assert pages.run(PAGES['how-to/own-data.md'], shell=shell) == 2
  assert len(printed) == 6 and 'more.csv/accuracy' in printed[2]
  assert (models / 'out/chats/adapter_model.safetensors').is_file()
  assert (models / 'replies.txt').read_text().count('\n') == 1


def test_the_page_of_extras_has_those_of_the_package():
  project = tomllib.loads((pages.ROOT / 'pyproject.toml').read_text())['project']
  listed = re.findall(r'^\| `([\w-]+)` \|', PAGES['how-to/install.md'].read_text(), re.M)
  assert sorted(listed) == sorted(project['optional-dependencies'].keys() - {'test'})


def test_the_commands_of_all_pages_parse():
  lines = pages.commands()
  assert {line.split()[2] for line in lines.values() if line.startswith('python -m')} > {
    'experiments.train', 'experiments.reproduce', 'experiments.serve', 'experiments.plan',
    'experiments.compare_peers',  # Of the README's table of results.
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
