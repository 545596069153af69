#!/usr/bin/env bash
# What became of a job, in the one word that Snakemake wants: running, success or failed.
#   bash profiles/cluster-generic/status.sh JOB
# Tried with Slurm. The branches for PBS, LSF and SGE are untried.
job=${1:?usage: status.sh JOB}

if command -v squeue >/dev/null; then
  # squeue knows ended jobs for a while (MinJobAge); sacct, where there is a database, for ever.
  state=$(squeue --noheader --states=all --format=%T --jobs="$job" 2>/dev/null | head -n 1)
  [ -n "$state" ] || state=$(timeout 20 sacct --noheader --allocations --parsable2 --format=State --jobs="$job" 2>/dev/null)
  case $state in
    COMPLETED) echo success ;;
    PENDING | CONFIGURING | RUNNING | SUSPENDED | COMPLETING | REQUEUED | RESIZING | STOPPED) echo running ;;
    *) echo failed ;;
  esac
elif command -v bjobs >/dev/null; then
  case $(bjobs -noheader -o stat "$job" 2>/dev/null) in
    DONE) echo success ;;
    PEND | RUN | PSUSP | USUSP | SSUSP | WAIT | PROV) echo running ;;
    *) echo failed ;;
  esac
elif command -v pbsnodes >/dev/null; then
  # -x: ended jobs too.
  description=$(qstat -x -f "$job" 2>/dev/null)
  case $(sed -n 's/^ *job_state = //p' <<<"$description") in
    F) [ "$(sed -n 's/^ *Exit_status = //p' <<<"$description")" = 0 ] && echo success || echo failed ;;
    '') echo failed ;;
    *) echo running ;;
  esac
else
  # SGE: qstat knows only jobs that have not ended, qacct the others.
  if qstat -j "$job" >/dev/null 2>&1; then
    echo running
  elif qacct -j "$job" 2>/dev/null | grep -Eq '^exit_status +0 *$'; then
    echo success
  else
    echo failed
  fi
fi
