# The door: `snakemake --cores 8` from this folder does everything. The workflow itself is workflow/Snakefile.


include: "workflow/Snakefile"


# `include` does not carry the default target, so the door has one of its own (a test shows that both plan the same).
rule everything:
    default_target: True
    input:
        rules.all.input,
