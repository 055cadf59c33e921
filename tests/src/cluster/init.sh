#!/usr/bin/env bash
# Process 1 of a cluster's own pid, mount and network namespaces: init.sh LEVEL STATE
#
# Killing it, or `unshare`, which waits for it, ends every process and every mount of the cluster. STATE holds what the harness wrote
# (keys, configuration, parts/NAME: the arguments of each part, one a line) and gets the logs and, once all is ready, the file
# `ready`. All else is in a /run of its own, in memory. Sourced with LEVEL `part`, it only brings the functions below.
set -euo pipefail
level=$1 state=$2
run=/run/k

# Starts a part, and notes its pid for whoever wants to kill it.
start() {
  local argv
  mapfile -t argv <"$state/parts/$1"
  "${argv[@]}" >>"$state/log/$1.log" 2>&1 </dev/null &
  echo $! >"$run/pids/$1"
}

alive() { kill -0 "$(cat "$run/pids/$1")" 2>/dev/null; }

# Tries a command until it succeeds; gives up after a minute, or at once when the part that has to answer is gone.
await() {
  local part=$1 tries; shift
  for ((tries = 0; tries < 1200; tries++)); do
    "$@" >/dev/null 2>&1 && return
    alive "$part" || break
    sleep 0.05
  done
  echo "$part: no success of: $*" >&2
  tail -n 20 "$state/log/$part.log" >&2
  return 1
}

# GET of a page: get URL [curl-like extras are not wanted: bash opens plain HTTP by itself].
plain() {
  local host=$1 path=$2 status
  exec 3<>"/dev/tcp/${host%:*}/${host#*:}" || return 1
  printf 'GET %s HTTP/1.0\r\n\r\n' "$path" >&3
  read -r _ status _ <&3
  exec 3<&-
  [ "$status" = 200 ]
}

kubectl() { "$state/bin/kubectl" --kubeconfig "$state/admin.inside" "$@"; }
api_ready() { kubectl get --raw /readyz; }

[ "$level" != part ] || return 0

mount -t tmpfs tmpfs /run
mkdir -p $run/pids $run/cni /var/lib/cni /var/log/containers "$state/log"
for folder in /var/lib/cni /var/log/containers; do mkdir -p "$run/var$folder"; mount --bind "$run/var$folder" $folder; done

ip link set lo up
ip link add node0 type bridge
ip addr add 192.0.2.10/24 dev node0
ip link set node0 up
ip route add default via 192.0.2.1 dev node0

start etcd
start kube-apiserver
if [ "$level" = 3 ]; then
  sysctl -qw net.ipv4.ip_forward=1
  [ ! -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || sysctl -qw net.bridge.bridge-nf-call-iptables=1
  cgroup=$(cat "$state/cgroup")
  for folder in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    [ -e "$folder/cgroup.procs" ] || continue
    mkdir -p "$folder/$cgroup"
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$folder/$file" ] || cat "$folder/$file" >"$folder/$cgroup/$file" || true
    done
  done
  cp "$state/cni.json" $run/cni/10-pods.conflist
  start containerd
  await containerd ctr -a $run/containerd.sock version
  for image in "$state"/images/*.tar; do ctr -a $run/containerd.sock -n k8s.io images import "$image" >/dev/null; done
  start kubelet
fi
await kube-apiserver api_ready
start kube-controller-manager
if [ "$level" = 3 ]; then
  start kube-scheduler
  start kube-proxy
  kubectl create -f "$state/coredns.yaml" >/dev/null
  start coredns
fi
await kube-controller-manager kubectl get serviceaccount default
if [ "$level" = 3 ]; then
  await kubelet kubectl wait --for=condition=Ready node/node1 --timeout=1s
  await kube-proxy plain 127.0.0.1:10256 /healthz
  await coredns plain 127.0.0.1:8181 /ready
fi
touch "$state/ready"
# Reaps what is orphaned; ends when the namespace is ended.
while :; do sleep 3600 & wait $!; done
