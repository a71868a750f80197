#!/usr/bin/env bash
# Trains on a slice of Spot TPU VMs: asks for one, and for another whenever it is taken away, until
# the run's result.json is on the bucket. Run it where gcloud is logged in, from a checkout whose
# changes are committed; stopped and started again, it goes on. What it costs ends when it ends.
set -euo pipefail

PROJECT=my-project
ZONE=us-west4-a
NAME=lora-samsum
ACCELERATOR=v5litepod-16 # v5e:4x4 of experiments.plan, on four hosts.
RUNTIME=v2-alpha-tpuv5-lite
BUCKET=my-bucket # The name alone; it holds data/samsum/{train,val,test}.json.
WORKDIR=gs://$BUCKET/runs/samsum
CACHE=gs://$BUCKET/compiled

# What every host runs when it has started, as root; its log is that of the unit `train`.
on_each_host() {
  cd /root
  export HOME=/root
  gcloud storage cp "gs://$BUCKET/code.bundle" code.bundle
  gcloud storage cp --recursive "gs://$BUCKET/data" .
  curl -LsSf https://astral.sh/uv/install.sh | sh
  rm -rf lora_jax
  git clone --quiet code.bundle lora_jax
  cd lora_jax
  /root/.local/bin/uv venv --quiet --python 3.12 .venv
  /root/.local/bin/uv pip install --quiet '.[all,tpu]'
  # No shell between the unit and Python: SIGTERM comes from systemd when the machine is taken away,
  # the state is saved, and 143 is a good end. A host that lost another one, or ended with one that
  # was told to stop, is started again and waits for it. Any other error is left on the bucket for
  # the loop below to find.
  systemd-run --unit=train --collect --working-directory=/root/lora_jax \
    --property=After=network-online.target --property=KillMode=mixed \
    --property=TimeoutStopSec=25 --property=SuccessExitStatus=143 \
    --property=Restart=on-abnormal --property=RestartForceExitStatus=143 --property=RestartSec=30 \
    --property="ExecStopPost=/root/lora_jax/cloud/stopped.sh $WORKDIR" \
    --setenv=HOME=/root --setenv=JAX_COMPILATION_CACHE_DIR="$CACHE" \
    /root/lora_jax/.venv/bin/python -m experiments.train \
    --config=configs/gpt3.py:task=samsum,model=gpt2-xl,method=lora \
    --config.data.dir=/root/data/samsum \
    --config.model.scan=true --config.model.remat=full \
    --config.model.dtype=bfloat16 --config.model.param_dtype=bfloat16 \
    --workdir="$WORKDIR"
}

tpus() { gcloud compute tpus queued-resources "$@" --project="$PROJECT" --zone="$ZONE"; }
has() { gcloud storage ls "$1" >/dev/null 2>&1; }

give_back() { tpus delete "$NAME" --force --quiet || true; }

# NONE where there is no slice; UNKNOWN where gcloud cannot tell, and then nothing is asked for.
slice_state() {
  if tpus describe "$NAME" --format='value(state.state)' 2>"$startup.error"; then return; fi
  if grep -qi 'not.found' "$startup.error"; then echo NONE; return; fi
  cat "$startup.error" >&2
  echo UNKNOWN
}

# The hosts get what is committed; this file's own parameters go with the startup script.
if [[ $BUCKET == *:* ]]; then
  echo "error: BUCKET=$BUCKET: expected the bucket's name alone, as my-bucket" >&2
  exit 1
fi
if ! git diff --quiet HEAD -- . ':(exclude)cloud/tpu_vm.sh'; then
  echo 'error: these files have changes that are not committed, which the hosts would not get:' >&2
  git diff --name-only HEAD -- . ':(exclude)cloud/tpu_vm.sh' >&2
  echo 'Commit them (git commit -a), or put them aside (git stash).' >&2
  exit 1
fi

startup=$(mktemp)
trap 'rm -f "$startup" "$startup.bundle" "$startup.error"' EXIT
{
  echo '#!/bin/bash'
  echo 'set -euxo pipefail'
  declare -p BUCKET WORKDIR CACHE
  declare -f on_each_host
  echo on_each_host
} >"$startup"
git bundle create "$startup.bundle" HEAD
gcloud storage cp "$startup.bundle" "gs://$BUCKET/code.bundle"
gcloud storage rm "$WORKDIR.failed" >/dev/null 2>&1 || true

until has "$WORKDIR/result.json"; do
  if has "$WORKDIR.failed"; then
    gcloud storage cat "$WORKDIR.failed" >&2
    give_back
    exit 1
  fi
  state=$(slice_state)
  echo "$(date +%T) $NAME: $state"
  case $state in
    NONE)
      tpus create "$NAME" --node-id="$NAME" --accelerator-type="$ACCELERATOR" \
        --runtime-version="$RUNTIME" --spot --metadata-from-file=startup-script="$startup"
      ;;
    SUSPENDED | FAILED) give_back ;;
  esac
  sleep "${POLL:-60}"
done
give_back
echo "finished: $WORKDIR/result.json"
