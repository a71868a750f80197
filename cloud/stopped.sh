#!/usr/bin/env bash
# Of a run that a mistake ended, the last lines go to WORKDIR.failed; systemd starts this.
set -euo pipefail
if [[ ${SERVICE_RESULT:-} == exit-code ]]; then
  journalctl --unit=train --lines=40 --output=cat | gcloud storage cp - "$1.failed"
fi
