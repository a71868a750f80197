"""The jobs of cloud/: they fit their tools' schemas, their commands parse, SIGTERM arrives."""

import importlib
import json
import os
import pathlib
import re
import shlex
import signal
import string
import subprocess
import time

import jsonschema
import pytest
import yaml

from lora_jax.fields import FIELDS
from lora_jax.train import paths

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLOUD = ROOT / 'cloud'
SCHEMAS = ROOT / 'tests' / 'golden' / 'schemas'  # Made by golden/make_schemas.py.
BUCKET = 'bucket'
FILLED = {
  'IMAGE': 'registry/lora:1',
  'TOPOLOGY': '4x4',
  'HOSTS': '4',
}


def fields(*required, **properties):
  """The schema of an object with these fields and no others."""
  kind = {'type': 'object', 'additionalProperties': False}
  return kind | {'properties': properties, 'required': list(required)}


def list_of(items):
  return {'type': 'array', 'minItems': 1, 'items': items}


TEXT, SWITCH = {'type': 'string'}, {'type': 'boolean'}
NAME = {'type': 'string', 'pattern': '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'}
# The fields of jobset.x-k8s.io/v1alpha2, by its documentation; the content of a template is a Job.
# fmt: off
JOBSET = fields(
  'apiVersion', 'kind', 'metadata', 'spec',
  apiVersion={'const': 'jobset.x-k8s.io/v1alpha2'},
  kind={'const': 'JobSet'},
  metadata=fields('name', name=NAME, annotations={'additionalProperties': TEXT}),
  spec=fields(
    'replicatedJobs',
    network=fields(enableDNSHostnames=SWITCH, publishNotReadyAddresses=SWITCH, subdomain=NAME),
    failurePolicy=fields(
      maxRestarts={'type': 'integer', 'minimum': 0},
      rules=list_of(
        fields(
          'name', 'action',
          name={'type': 'string', 'pattern': '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$'},
          action={
            'enum': ['FailJobSet', 'RestartJobSet', 'RestartJobSetAndIgnoreMaxRestarts',
                     'RestartJob', 'RestartJobAndIgnoreMaxRestarts']
          },
          onJobFailureReasons=list_of({
            'enum': ['BackoffLimitExceeded', 'DeadlineExceeded', 'FailedIndexes',
                     'MaxFailedIndexesExceeded', 'PodFailurePolicy']
          }),
          targetReplicatedJobs=list_of(NAME),
        )
      ),
    ),
    replicatedJobs=list_of(
      fields('name', 'template', name=NAME, replicas={'type': 'integer', 'minimum': 1},
             template=fields('spec', metadata={'type': 'object'}, spec={'type': 'object'}))
    ),
  ),
)
# fmt: on


def jobset(text=None, bucket=BUCKET):
  """The JobSet, filled in as envsubst does it."""
  text = (CLOUD / 'jobset.yaml').read_text() if text is None else text
  return yaml.safe_load(string.Template(text).substitute(FILLED, BUCKET=bucket))


def check_jobset(found):
  jsonschema.validate(found, JOBSET)
  for replicated in found['spec']['replicatedJobs']:
    job = {'apiVersion': 'batch/v1', 'kind': 'Job', 'metadata': {'name': 'x'}}
    jsonschema.validate(job | replicated['template'], schema('job'))


def schema(name):
  return json.loads((SCHEMAS / f'{name}.json').read_text())


def skypilot():
  return yaml.safe_load((CLOUD / 'skypilot.yaml').read_text())


def test_the_jobset_is_one():
  check_jobset(jobset())
  (replicated,) = jobset()['spec']['replicatedJobs']
  job = replicated['template']['spec']
  pod = job['template']['spec']
  (container,) = pod['containers']
  chips = container['resources']['limits']['google.com/tpu']
  assert job['parallelism'] == job['completions'] == 4 and chips * 4 == 4 * 4  # 4x4 chips.
  assert pod['terminationGracePeriodSeconds'] <= 30
  mounted = {mount['name'] for mount in container['volumeMounts']}
  assert mounted == {volume['name'] for volume in pod['volumes']}
  assert container['command'][:3] == ['python', '-m', 'experiments.train'], 'not behind a shell'


def test_a_jobset_without_its_bucket_writes_to_no_disk():
  """envsubst writes nothing for what is not exported: --workdir was a folder of the container."""
  (replicated,) = jobset(bucket='')['spec']['replicatedJobs']
  (container,) = replicated['template']['spec']['template']['spec']['containers']
  workdir = container['command'][-1].removeprefix('--workdir=')
  with pytest.raises(ValueError, match=r'^gs:///runs/samsum: names no bucket'):
    paths.path_of(workdir)


def test_the_three_jobs_take_the_name_of_the_bucket_alone():
  workdirs = {name: arguments[-1] for name, arguments in commands() if 'README' not in name}
  assert list(workdirs.values()) == [f'--workdir=gs://{BUCKET}/runs/samsum'] * 3
  assert skypilot()['file_mounts']['~/data/samsum']['source'] == 'gs://${BUCKET}/data/samsum'
  given = [line for line in (CLOUD / 'tpu_vm.sh').read_text().splitlines() if 'BUCKET=' in line]
  assert skypilot()['envs']['BUCKET'] == given[0].split()[0].removeprefix('BUCKET=') == 'my-bucket'


def test_the_address_of_a_bucket_in_place_of_its_name_is_refused():
  (replicated,) = jobset(bucket='gs://bucket')['spec']['replicatedJobs']
  (container,) = replicated['template']['spec']['template']['spec']['containers']
  with pytest.raises(ValueError, match=r'gs://gs://.*give the name alone: BUCKET=my-bucket'):
    paths.path_of(container['command'][-1].removeprefix('--workdir='))


@pytest.mark.parametrize(
  'old, new',
  [
    ('maxRestarts:', 'maxRestart:'),
    ('replicas: 1', 'replicas: one'),
    ('action: RestartJobSetAndIgnoreMaxRestarts', 'action: Restart'),
    ('[PodFailurePolicy]', '[Preempted]'),
    ('replicatedJobs:', 'jobs:'),
    ('backoffLimit:', 'backofLimit:'),
    ('parallelism: ${HOSTS}', 'parallelism: four'),
    ('terminationGracePeriodSeconds:', 'gracePeriodSeconds:'),
    ('google.com/tpu: 4', 'google.com/tpu: [4]'),
    ('volumeMounts:', 'volumeMount:'),
    ('enableDNSHostnames: true', 'enableDNSHostnames: 4'),
  ],
)
def test_a_wrong_jobset_is_found(old, new):
  text = (CLOUD / 'jobset.yaml').read_text()
  assert old in text
  with pytest.raises(jsonschema.ValidationError):
    check_jobset(jobset(text.replace(old, new)))


def test_the_skypilot_task_is_one():
  task = skypilot()
  jsonschema.validate(task, schema('skypilot'))
  for section, name in ((task, 'setups'), (task['resources'], 'acelerators')):
    section[name] = 'x'
    with pytest.raises(jsonschema.ValidationError, match=name):
      jsonschema.validate(task, schema('skypilot'))
    del section[name]


@pytest.mark.parametrize('name', ['tpu_vm.sh', 'stopped.sh'])
def test_the_scripts_are_bash(name):
  subprocess.run(['bash', '-n', CLOUD / name], check=True)
  assert os.access(CLOUD / name, os.X_OK)


def commands():
  """The arguments of `python -m experiments.train` in each job of cloud/ and in its README."""
  (replicated,) = jobset()['spec']['replicatedJobs']
  container = replicated['template']['spec']['template']['spec']['containers'][0]
  yield 'jobset.yaml', container['command'][3:]
  texts = {name: (CLOUD / name).read_text() for name in ('tpu_vm.sh', 'README.md')}
  texts['skypilot.yaml'] = skypilot()['run']
  for name, text in texts.items():
    found = re.findall(r'-m experiments\.train((?:[^\n]*\\\n)*[^\n]*)', text)
    assert found, name
    for number, line in enumerate(found):
      filled = string.Template(line.replace('\\\n', ' ')).safe_substitute(
        BUCKET=BUCKET, WORKDIR=f'gs://{BUCKET}/runs/samsum', HOME='/root'
      )
      yield f'{name} {number}', shlex.split(filled)


@pytest.mark.parametrize('name, arguments', [pytest.param(*x, id=x[0]) for x in commands()])
def test_the_command_parses(name, arguments):
  given = dict(argument.removeprefix('--').split('=', 1) for argument in arguments)
  path, _, arg = given.pop('config').partition(':')
  assert (ROOT / path).is_file(), path
  config = importlib.import_module(path.removesuffix('.py').replace('/', '.')).get_config(arg)
  workdir = given.pop('workdir')
  assert workdir.startswith(f'gs://{BUCKET}/') or name.startswith('README')
  flat = {key.removeprefix('config.'): value for key, value in given.items()}
  assert all(key.startswith('config.') for key in given), sorted(given)
  with config.unlocked():
    for key, value in flat.items():
      section, _, field = key.rpartition('.')
      for part in section.split('.'):
        config_section = config[part] if part else config
      assert field in config_section, key
      before = config_section[field]
      kind = FIELDS[key].kind if key in FIELDS else type(before)  # One that is None has its kind.
      config_section[field] = value == 'true' if kind is bool else kind(value)


def jobs_alike():
  jobs = {name: arguments for name, arguments in commands() if 'README' not in name}
  return {name: sorted(a for a in jobs[name] if 'dir' not in a) for name in jobs}


def test_the_three_jobs_run_one_command():
  first, *others = jobs_alike().values()
  assert len(others) == 2 and all(other == first for other in others)


PYTHON = """#!/usr/bin/env python3
import os, signal, sys, time
def stop(*_):
  open('stopped', 'w').write(' '.join(sys.argv[1:]))
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
open('started', 'w').write(os.environ['JAX_COMPILATION_CACHE_DIR'])
time.sleep(60)
"""


def fake(folder, name, text):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  path.chmod(0o755)


def until(path, process):
  for _ in range(2000):
    if path.exists() and path.read_text():
      return
    assert process.poll() is None, process.communicate()
    time.sleep(0.01)
  raise AssertionError(f'no {path}')


def test_sigterm_reaches_python_through_skypilots_shell(tmp_path):
  fake(tmp_path, '.venv/bin/python', PYTHON)
  process = subprocess.Popen(
    ['bash', '-c', skypilot()['run']], cwd=tmp_path, env={**os.environ, 'BUCKET': BUCKET}
  )
  until(tmp_path / 'started', process)
  process.send_signal(signal.SIGTERM)
  assert process.wait(timeout=30) == 143
  assert (tmp_path / 'started').read_text() == f'gs://{BUCKET}/compiled'
  assert (tmp_path / 'stopped').read_text().startswith('-m experiments.train --config=')


GCLOUD = """#!/usr/bin/env bash
# A cloud in folders: bucket/ is the bucket, `states` has the states of the slice to come.
echo "$*" >> "$ROOT/log"
case "$*" in
  'storage cp '*code.bundle*) echo bundle > "$ROOT/bucket/code.bundle" ;;
  'storage ls '*) test -e "$ROOT/bucket/${3#gs://my-bucket/}" ;;
  'storage cat '*) cat "$ROOT/bucket/${3#gs://my-bucket/}" ;;
  'storage rm '*) rm "$ROOT/bucket/${3#gs://my-bucket/}" ;;
  *' describe '*)
    state=$(head -n 1 "$ROOT/states"); sed -i 1d "$ROOT/states"
    case $state in
      NONE) echo 'ERROR: (gcloud...describe) NOT_FOUND: Requested entity was not found.' >&2; exit 1 ;;
      OFFLINE) echo 'ERROR: gcloud crashed (ConnectionError)' >&2; exit 1 ;;
      DONE) echo ACTIVE; mkdir -p "$ROOT/bucket/runs/samsum"; touch "$ROOT/bucket/runs/samsum/result.json" ;;
      WRONG) echo ACTIVE; mkdir -p "$ROOT/bucket/runs"; echo 'error: no such task' > "$ROOT/bucket/runs/samsum.failed" ;;
      *) echo "$state" ;;
    esac ;;
  *' create '*)
    script=$(sed 's/.*startup-script=\\([^ ]*\\).*/\\1/' <<< "$*"); cp "$script" "$ROOT/startup" ;;
esac
"""  # noqa: E501


def watch(folder, states, change=None):
  """What tpu_vm.sh does with a slice that goes through `states`: how it ends, its calls.

  The file `change` of the checkout is another one than is committed.
  """
  fake(folder, 'bin/gcloud', GCLOUD)
  (folder / 'bucket').mkdir()
  (folder / 'states').write_text('\n'.join(states) + '\n')
  subprocess.run(['git', 'init', '-q', folder], check=True)
  author = ['-c', 'user.name=x', '-c', 'user.email=x@x']
  commit = ['git', '-C', folder, *author, 'commit', '-q', '--allow-empty', '-m', 'x']
  subprocess.run(commit, check=True)
  if change:
    (folder / change).write_text('changed')
  path = f'{folder / "bin"}:{os.environ["PATH"]}'
  done = subprocess.run(
    ['bash', CLOUD / 'tpu_vm.sh'],
    cwd=folder,
    capture_output=True,
    text=True,
    timeout=60,
    env={**os.environ, 'PATH': path, 'ROOT': str(folder), 'POLL': '0'},
  )
  log = folder / 'log'
  calls = log.read_text().splitlines() if log.exists() else []
  kept = [call.split()[3] for call in calls if 'queued-resources' in call]
  return done, [verb for verb in kept if verb != 'describe']


def test_a_slice_that_is_taken_away_is_asked_for_again(tmp_path):
  states = ['NONE', 'PROVISIONING', 'ACTIVE', 'SUSPENDED', 'NONE', 'ACTIVE', 'DONE']
  done, calls = watch(tmp_path, states)
  assert done.returncode == 0, done.stderr
  assert calls == ['create', 'delete', 'create', 'delete']
  assert 'finished: gs://my-bucket/runs/samsum/result.json' in done.stdout


def test_a_mistake_gives_the_slice_back_and_is_shown(tmp_path):
  done, calls = watch(tmp_path, ['NONE', 'ACTIVE', 'WRONG'])
  assert done.returncode == 1 and 'error: no such task' in done.stderr
  assert calls == ['create', 'delete']


def test_a_slice_that_cannot_be_asked_about_is_not_asked_for_again(tmp_path):
  """Asked for twice it is an error, which ended the script and left the slice running."""
  done, calls = watch(tmp_path, ['NONE', 'ACTIVE', 'OFFLINE', 'ACTIVE', 'DONE'])
  assert done.returncode == 0 and calls == ['create', 'delete']
  assert ': UNKNOWN' in done.stdout and 'ConnectionError' in done.stderr


def test_changes_that_the_hosts_would_not_get_are_named_before_anything_costs(tmp_path):
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'configs' / 'gpt3.py').write_text('lr = 1')
  subprocess.run(['git', 'init', '-q', tmp_path], check=True)
  subprocess.run(['git', '-C', tmp_path, 'add', 'configs'], check=True)
  done, calls = watch(tmp_path, [], change='configs/gpt3.py')
  assert done.returncode == 1 and not calls
  assert 'configs/gpt3.py' in done.stderr and 'git commit -a' in done.stderr


def test_the_script_refuses_the_address_of_a_bucket_in_place_of_its_name(tmp_path):
  script = (CLOUD / 'tpu_vm.sh').read_text().replace('BUCKET=my-bucket', 'BUCKET=gs://my-bucket')
  done = subprocess.run(['bash', '-c', script], cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 1
  assert (
    done.stderr == "error: BUCKET=gs://my-bucket: expected the bucket's name alone, as my-bucket\n"
  )


def test_a_host_starts_python_under_systemd_without_a_shell(tmp_path):
  done, _ = watch(tmp_path, ['NONE', 'DONE'])
  assert done.returncode == 0, done.stderr
  script = (tmp_path / 'startup').read_text()
  assert 'rm -f "$startup"' not in script
  home = tmp_path / 'root'
  (home / 'code').mkdir(parents=True)
  for name in ('curl', 'git', 'sh'):
    fake(tmp_path, f'bin/{name}', '#!/bin/bash\n[[ $1 == clone ]] && mkdir -p lora_jax || true\n')
  fake(home, '.local/bin/uv', '#!/bin/bash\n')
  fake(tmp_path, 'bin/systemd-run', '#!/bin/bash\nprintf "%s\\n" "$@" > "$ROOT/unit"\n')
  path = f'{tmp_path / "bin"}:{os.environ["PATH"]}'
  subprocess.run(
    ['bash', '-c', script.replace('/root', str(home))],
    check=True,
    capture_output=True,
    env={**os.environ, 'PATH': path, 'ROOT': str(tmp_path)},
  )
  unit = (tmp_path / 'unit').read_text().splitlines()
  at = unit.index(f'{home}/lora_jax/.venv/bin/python')
  assert unit[at + 1 : at + 3] == ['-m', 'experiments.train']
  assert unit[-1] == '--workdir=gs://my-bucket/runs/samsum'
  assert all(argument.startswith('--') for argument in unit[:at])
  assert '--property=SuccessExitStatus=143' in unit and '--property=KillMode=mixed' in unit
  assert '--property=RestartForceExitStatus=143' in unit
  assert '--setenv=JAX_COMPILATION_CACHE_DIR=gs://my-bucket/compiled' in unit
