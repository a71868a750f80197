#!/usr/bin/env bash
# The quick tests with the newest packages that pyproject.toml allows, on the newest Python here that
# is newer than that of .venv: `.ci/newest.sh [PYTHON]`. Without such an interpreter it says so and
# succeeds. Needs a package registry, like `make test`; makes .venv-newest.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv-newest
tests=(tests/methods tests/models tests/pretrained tests/adapters tests/train/test_step.py)

python=''
for candidate in "${1:-}" python3.13 python3.12 \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.13*/bin/python \
  "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.12*/bin/python; do
  if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv, ensurepip
sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo 'test-newest: skipped, no Python 3.12 or 3.13 was found (with venv). Name one:' \
    'make test-newest NEWEST=/path/to/python3.13'
  exit 0
fi

stamp=$venv/.complete
wanted=$("$python" --version)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || [ pyproject.toml -nt "$stamp" ]; then
  rm -f "$stamp"
  "$python" -m venv --clear "$venv"
  "$venv/bin/python" - > "$venv/packages.txt" <<'P'
import re, tomllib

with open('pyproject.toml', 'rb') as file:
  project = tomllib.load(file)['project']

def packages(extra):
  for line in project['optional-dependencies'][extra]:
    inner = re.fullmatch(r'lora_jax\[(.+)\]', line)
    yield from [line] if inner is None else (x for name in inner[1].split(',') for x in packages(name))

print('\n'.join(sorted({*project['dependencies'], *packages('test')})))
P
  if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade \
    -r "$venv/packages.txt"; then
    echo "test-newest: pip found no set of the newest packages that pyproject.toml allows for" \
      "$wanted, or could not reach the registry: its message is above. No test of this project" \
      'has failed. If two packages disagree, bound one of them in pyproject.toml.' >&2
    exit 1
  fi
  echo "$wanted" > "$stamp"
fi
"$venv/bin/python" - <<'P'
import importlib.metadata, platform

names = 'jax', 'flax', 'optax', 'orbax-checkpoint', 'numpy'
found = ', '.join(f'{name} {importlib.metadata.version(name)}' for name in names)
print(f'test-newest: Python {platform.python_version()}, {found}', flush=True)
P
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false ${XLA_FLAGS:-}" OMP_NUM_THREADS=1 \
  OPENBLAS_NUM_THREADS=1 "$venv/bin/python" -m pytest -n "${WORKERS:-2}" --dist worksteal \
  -m 'not slow' -p no:cacheprovider "${tests[@]}"
