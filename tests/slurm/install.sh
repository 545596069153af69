#!/usr/bin/env bash
# Install Slurm's controller, node daemon, client and munge on Debian or Ubuntu, where they are missing. Needs root.
set -euo pipefail
missing=()
for program in slurmctld slurmd sbatch munged; do
  command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo 'Slurm and munge are installed.'
  exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
  echo "error: ${missing[*]} missing, and only root can install them: sudo bash tests/slurm/install.sh" >&2
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  echo "error: ${missing[*]} missing, and there is no apt-get here: install Slurm and munge another way" >&2
  exit 1
fi
echo 'Installing Slurm and munge ...'
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge >/dev/null
