#!/usr/bin/env bash
# Kills or starts one part of a running cluster, from inside its namespaces: part.sh kill|start STATE NAME
set -euo pipefail
source "$(dirname "$0")/init.sh" part "$2"
case $1 in
  kill)
    pid=$(cat "$run/pids/$3")
    kill -KILL "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done
    ;;
  start) start "$3" ;;
esac
