#!/usr/bin/env bash
# Stop the daemons that start.sh started for FOLDER, by their own process files, and take its link away.
#   bash tests/slurm/stop.sh FOLDER
set -uo pipefail
folder=$(realpath -m "${1:?usage: stop.sh FOLDER}")
link=/etc/slurm/slurm.conf
for daemon in slurmd slurmctld munged; do
  file="$folder/run/$daemon.pid"
  [ -s "$file" ] || continue
  process=$(cat "$file")
  # A daemon that died left its file, and its number may be somebody else's by now.
  [ "$(ps -o comm= -p "$process")" = "$daemon" ] || continue
  kill "$process" 2>/dev/null || continue
  for _ in $(seq 50); do
    kill -0 "$process" 2>/dev/null || break
    sleep 0.1
  done
done
if [ "$(readlink "$link")" = "$folder/slurm.conf" ]; then rm "$link"; fi
