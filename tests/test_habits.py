"""The pages for contributors name files and tables that exist; versions and workflows agree."""

import re

import pytest
import yaml

import lora_jax
from tests import house

PAGES = ('CONTRIBUTING.md', 'SECURITY.md')
FILES = [path.relative_to(house.ROOT).as_posix() for folder in
         ('.ci', 'cloud', 'configs', 'experiments', 'lora_jax', 'results', 'tests')
         for path in sorted((house.ROOT / folder).rglob('*')) if path.is_file()]  # fmt: skip
FILES += [path.name for path in house.ROOT.iterdir() if path.is_file()]
# Names of files that a reader has, or would write.
OTHERS = r'(.*NAME.*|(tokenizer|config|result|provenance)\.json|(vocab|merges)\.txt)'
MADE_TARGETS = re.findall(r'^([a-z-]+):', (house.ROOT / 'Makefile').read_text(), re.M)


def spans(page: str) -> list[str]:
  """What stands in backticks on a page."""
  return re.findall(r'`([^`\n]+)`', (house.ROOT / page).read_text())


def holders(span: str) -> list[str]:
  """The files that a span names: by their path, or its end; `*` is anything in a name."""
  pattern = re.escape(span).replace(r'\*', r'[^/]*')
  return [file for file in FILES if re.search(rf'(^|/){pattern}$', file)]


@pytest.mark.parametrize('page', PAGES)
def test_every_file_that_a_page_names_exists(page):
  named = [span for span in spans(page) if re.fullmatch(r'[\w./*-]+\.(py|md|txt|toml|json)', span)]
  assert len(named) > 10
  assert [span for span in named if not re.fullmatch(OTHERS, span) and not holders(span)] == []
  folders = [span for span in spans(page) if re.fullmatch(r'(lora_jax|tests|results)/[\w/]*', span)]
  assert [span for span in folders if not (house.ROOT / span).exists()] == []


def test_every_table_that_a_checklist_names_is_in_a_file_of_its_step():
  text = (house.ROOT / 'CONTRIBUTING.md').read_text()
  steps = re.findall(r'^\d\. .*(?:\n   .*)*', text, re.M)
  assert len(steps) == 19
  missing = []
  for step in steps:
    found = [span for span in re.findall(r'`([^`\n]+)`', step) if span.endswith('.py')]
    code = ''.join((house.ROOT / file).read_text() for span in found for file in holders(span))
    for name in re.findall(r'`([A-Z]{3,})`', step):
      if name != 'NAME' and not re.search(rf'^{name}\b', code, re.M):
        missing.append(f'{name}: {step[:60]}')
  assert missing == []


def test_the_citation_and_the_changelog_are_of_this_version():
  citation = yaml.safe_load((house.ROOT / 'CITATION.cff').read_text())
  assert citation['version'] == lora_jax.__version__
  assert len(citation['preferred-citation']['authors']) == 8
  headings = re.findall(r'^## (.*)', (house.ROOT / 'CHANGELOG.md').read_text(), re.M)
  assert headings[0] == 'Unreleased' and lora_jax.__version__ in headings


def test_workflows_hooks_and_forms_are_ones_that_can_run():
  jobs = yaml.safe_load((house.ROOT / '.github/workflows/ci.yml').read_text())['jobs']
  runs = [step['run'] for job in jobs.values() for step in job['steps'] if 'run' in step]
  targets = {name for run in runs for name in re.findall(r'\bmake ([a-z-]+)', run)}
  assert {'test', 'lint', 'docs'} <= targets <= set(MADE_TARGETS)
  hooks = yaml.safe_load((house.ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
  lint = (house.ROOT / 'Makefile').read_text()
  for hook in hooks:
    command = hook['entry'].removeprefix('.venv/bin/').removeprefix('python ').split(' --')[0]
    assert command in lint, command
  for form in sorted((house.ROOT / '.github/ISSUE_TEMPLATE').glob('*.yml')):
    found = yaml.safe_load(form.read_text())
    if form.name != 'config.yml':
      assert {'name', 'description', 'body'} <= found.keys()
      assert all(part['type'] in ('textarea', 'input') for part in found['body'])
