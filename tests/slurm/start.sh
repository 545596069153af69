#!/usr/bin/env bash
# Start a Slurm of one node on this machine: munged, slurmctld and slurmd, without systemd, cgroups or accounting.
#   bash tests/slurm/start.sh FOLDER        (as root; stop it with: bash tests/slurm/stop.sh FOLDER)
# All state lies in FOLDER, but for one link at /etc/slurm/slurm.conf: the plugin that runs a job's steps removes
# SLURM_CONF from their environment, so that they look nowhere else.
set -euo pipefail
folder=$(realpath -m "${1:?usage: start.sh FOLDER}")
here=$(dirname "$(realpath "$0")")
name=test_of_the_pipeline
link=/etc/slurm/slurm.conf
host=$(hostname -s)

# A Slurm that somebody works with is left alone; a link that a killed test left behind is not.
if [ -e "$link" ] && ! grep -q "^ClusterName=$name\$" "$link"; then
  echo "error: this machine has a Slurm of its own ($link)" >&2
  exit 1
fi
# Nor is one of these tests' that another run of them works with: there is one link, and one pair of ports.
if [ -e "$link" ] && timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP'; then
  echo "error: another run of these tests has its Slurm up ($(readlink "$link"))" >&2
  exit 1
fi

mkdir -p "$folder"/{munge,state,spool,log,run}
chmod 755 "$folder" "$folder/run"
chmod 700 "$folder"/{munge,state,spool}

cat >"$folder/slurm.conf" <<CONF
ClusterName=$name
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
CredType=cred/munge
MpiDefault=none
# No cgroups, and so nothing that enforces what jobs asked for.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# No database: squeue alone knows of jobs that have ended, and must know long enough.
AccountingStorageType=accounting_storage/none
MinJobAge=3600
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/log/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
# Look for work at once and not once a minute.
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ReturnToService=2
KillWait=2
# The node is believed to have what is written here: small machines run the tests too.
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE DefaultTime=60 State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
mkdir -p "$(dirname "$link")"
ln -sfn "$SLURM_CONF" "$link"

if [ ! -s "$folder/munge/munge.key" ]; then
  (umask 077 && dd if=/dev/urandom of="$folder/munge/munge.key" bs=1024 count=1 status=none)
fi
munged --force --key-file="$folder/munge/munge.key" --socket="$folder/run/munge.socket" \
  --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge/munge.seed"
slurmctld -c
slurmd -c

# By the clock and not by attempts: without a controller, sinfo itself waits for seconds.
while [ "$SECONDS" -lt 60 ]; do
  [ "$(timeout 5 sinfo -h -o %T 2>/dev/null)" = idle ] && exit 0
  sleep 0.1
done
for log in "$folder"/log/*.log; do tail -n 5 "$log" >&2; done
bash "$here/stop.sh" "$folder"
echo 'error: the node did not become idle within a minute; the ends of the logs are above' >&2
exit 1
