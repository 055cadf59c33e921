#!/usr/bin/env bash
# Builds the container image: target/image/sluice.tar, an OCI layout with one index over amd64 and arm64, and the list of what is
# in it (sluice.ARCH.cdx.json, CycloneDX).
#
#   deploy/image.sh [--flavour plain|inference] [--arch amd64,arm64] [--profile dist] [--name sluice/sluice:0.1.0]
#
# The flavour `inference` has pictures and ONNX models in SQL, is larger, and comes out beside the plain one as
# target/image/sluice-inference.tar, with a tag that ends in -inference. Its operator is that of the plain one.
# Static binaries, nothing else but certificates; runs as user 65532. The same sources and compilers give the same digest. Needs for
# the other architecture on an amd64 machine with Debian (all of it also smoke-runs the arm64 binaries):
#   dpkg --add-architecture arm64; apt-get update
#   apt-get install rustc-web cargo-web libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static
# or, with rustup: `rustup target add aarch64-unknown-linux-gnu` and the last three packages.
# Push it with `skopeo copy --all oci-archive:target/image/sluice.tar docker://REGISTRY/sluice:0.1.0`; on k3s without a registry:
# `k3s ctr images import sluice.tar`.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
architectures=amd64,arm64 profile=dist name='' flavour=plain
while [ $# -gt 0 ]; do
  case $1 in
    --flavour) flavour=$2 ;;
    --arch) architectures=$2 ;;
    --profile) profile=$2 ;;
    --name) name=$2 ;;
    *) echo "usage: deploy/image.sh [--flavour plain|inference] [--arch amd64,arm64] [--profile dist] [--name NAME:TAG]" >&2; exit 2 ;;
  esac
  shift 2
done
case $flavour in
  plain) suffix='' ;;
  inference) suffix=-inference ;;
  *) echo "no such flavour: $flavour" >&2; exit 2 ;;
esac
name=${name:-sluice/sluice:$version$suffix}
out=target/image
folder=$profile; [ "$profile" != dev ] || folder=debug
certificates=/etc/ssl/certs/ca-certificates.crt
[ -e "$certificates" ] || { echo "no $certificates: install the package ca-certificates" >&2; exit 1; }

# Paths of this machine would be in panic messages, and so in the digest.
static="-C target-feature=+crt-static --remap-path-prefix=$PWD=/sluice --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
roots=()
for architecture in ${architectures//,/ }; do
  case $architecture in
    amd64) target=x86_64-unknown-linux-gnu run=() ;;
    arm64) target=aarch64-unknown-linux-gnu run=() ;;
    *) echo "no such architecture here: $architecture" >&2; exit 2 ;;
  esac
  cargo=(cargo) compiler=()
  if [ "$architecture" = arm64 ] && [ "$(uname -m)" != aarch64 ]; then
    run=(qemu-aarch64-static)
    export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # The distribution's compiler, if rustup's has no library for this target.
    if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
      cargo=(/usr/bin/cargo) compiler=(RUSTC=/usr/bin/rustc)
      [ -x /usr/bin/rustc ] || { echo "no compiler for $target: see the top of this script" >&2; exit 1; }
    fi
  fi
  echo "== $architecture"
  variable=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUSTFLAGS
  build=(env "${compiler[@]}" "$variable=$static" "${cargo[@]}" build --locked --profile "$profile" --target "$target")
  # One by one: together each would get what the other asks of the libraries that both use.
  features=(); [ "$flavour" = plain ] || features=(--features "$flavour")
  "${build[@]}" --package sluice-runtime --bin sluice "${features[@]}"
  "${build[@]}" --package sluice-operator --bin sluice-operator

  root=$out/root$suffix/$architecture
  rm -rf "$root"; mkdir -p "$root/etc/ssl/certs" "$root/usr/bin" "$root/usr/share/sluice"
  cp "target/$target/$folder/sluice" "target/$target/$folder/sluice-operator" "$root/usr/bin"
  cp "$certificates" "$root/etc/ssl/certs/"
  cp LICENSE "$root/usr/share/sluice/"
  cargo run --quiet --package sluice-tests --bin image -- sbom --target "$target" --flavour "$flavour" >"$root/usr/share/sluice/sbom.cdx.json"
  cp "$root/usr/share/sluice/sbom.cdx.json" "$out/sluice$suffix.$architecture.cdx.json"

  # Does it run, with threads, a database and the clock?
  "${run[@]}" "$root/usr/bin/sluice" --version
  "${run[@]}" "$root/usr/bin/sluice-operator" --version
  rows=$("${run[@]}" "$root/usr/bin/sluice" run -f deploy/examples/demo 2>/dev/null | wc -l)
  [ "$rows" = 11 ] || { echo "$architecture: the demo gives $rows rows instead of 11" >&2; exit 1; }
  # What is only in the larger flavour is there, or it is said where.
  is_accepted=yes
  verdict=$("${run[@]}" "$root/usr/bin/sluice" check -f deploy/examples/camera-orientation 2>&1) || is_accepted=no
  case $flavour:$is_accepted:$verdict in
    plain:no:*'flavour `inference`'* | inference:yes:*) ;;
    plain:*) echo "$architecture: the plain flavour does not name the other one: $verdict" >&2; exit 1 ;;
    *) echo "$architecture: $verdict" >&2; exit 1 ;;
  esac
  roots+=("$architecture=$root")
done

digest=$(cargo run --quiet --package sluice-tests --bin image -- layout --name "$name" --version "$version" --out "$out/sluice$suffix.tar" "${roots[@]}")
echo "$out/sluice$suffix.tar: $name@$digest, $(du -h "$out/sluice$suffix.tar" | cut -f1)"
