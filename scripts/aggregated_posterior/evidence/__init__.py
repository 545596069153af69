"""From tables to verdicts, and whether a rerun agrees with what was published."""
