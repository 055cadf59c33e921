#!/usr/bin/env bash
# Renders the Helm chart into the base: render.sh [FILE]. The tests compare the two.
set -euo pipefail
cd "$(dirname "$0")"
${HELM:-helm} template sluice ../../charts/sluice --namespace sluice-system --set crds.keep=false --skip-tests |
  sed 's/managed-by: Helm/managed-by: kustomize/' >"${1:-base/operator.yaml}"
