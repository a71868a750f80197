"""Makes schemas/*.json, by which cloud/ is checked: a Kubernetes Job and a SkyPilot task.

Run in an environment with `pip install kubernetes-validate==1.37.0 skypilot==0.14.1`. Descriptions
are left out, and of Kubernetes' definitions those that a Job does not reach.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
from sky.utils import schemas

HERE = pathlib.Path(__file__).parent / 'schemas'
KUBERNETES = '1.33'


def bare(value: Any, of_properties: bool = False) -> Any:
  """A schema without descriptions and what only Kubernetes' own tools read."""
  if isinstance(value, list):
    return [bare(item) for item in value]
  if not isinstance(value, dict):
    return value
  return {
    key: bare(item, key == 'properties' and not of_properties)
    for key, item in value.items()
    if of_properties or not (key == 'description' or key.startswith('x-kubernetes'))
  }


def references(value: Any) -> Iterator[str]:
  """Names of the definitions that a schema refers to."""
  if isinstance(value, dict):
    if isinstance(value.get('$ref'), str):
      yield value['$ref'].rpartition('/')[2]
    value = list(value.values())
  if isinstance(value, list):
    for item in value:
      yield from references(item)


def job() -> dict[str, Any]:
  """Kubernetes' strict schema of a batch/v1 Job."""
  folder = pathlib.Path(kubernetes_validate.__file__).parent / 'kubernetes-json-schema'
  folder = folder / f'v{KUBERNETES}.0-local-strict'
  definitions = json.loads((folder / '_definitions.json').read_text())['$defs']
  reached, left = {}, ['io.k8s.api.batch.v1.Job']
  while left:
    name = left.pop()
    if name not in reached:
      reached[name] = bare(definitions[name])
      left += references(reached[name])
  return {'$ref': '#/$defs/io.k8s.api.batch.v1.Job', '$defs': reached}


def main() -> None:
  HERE.mkdir(exist_ok=True)
  task = bare(schemas.get_task_schema())
  task['properties']['resources'] = bare(schemas.get_resources_schema())
  for name, schema in (('job', job()), ('skypilot', task)):
    text = json.dumps(schema, separators=(',', ':'), sort_keys=True)
    (HERE / f'{name}.json').write_text(text.replace('/api/_definitions.json#', '#') + '\n')


if __name__ == '__main__':
  main()
