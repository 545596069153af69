# One cached rule in five versions: with all that the project puts into the key, and with one guard less in each.
configfile: "config/tiny.yaml"


include: "rules/common.smk"


from aggregated_posterior.pipeline import code_digest as provenance

INPUTS = ["five", "three"]
if os.environ.get("PROBE_SWAP"):
    INPUTS.reverse()


def key_without(part):
    """The project's cache_key less one of its parts."""

    def key(wildcards, input):
        return {
            name: value
            for name, value in cache_key(wildcards, input).items()
            if name != part
        }

    return key


def code_without_modules():
    """The project's code digest as it would be if it saw the script alone."""
    modules, packages = provenance._closure(SCRIPTS / "probe.py")
    original = provenance._closure
    provenance._closure = lambda script: ({script}, packages)
    digest = code("probe")
    provenance._closure = original
    return digest


def code_without_versions():
    """The project's code digest as it would be if it did not look at versions."""
    original = provenance._version
    provenance._version = lambda package: ""
    digest = code("probe")
    provenance._version = original
    return digest


VERSIONS = {
    "none": (cache_key, code("probe")),
    "wildcards": (key_without("wildcards"), code("probe")),
    "input": (key_without("input"), code("probe")),
    "modules": (cache_key, code_without_modules()),
    "versions": (cache_key, code_without_versions()),
}


rule all:
    input:
        expand("results/{version}_{seed}.txt", version=VERSIONS, seed=[1, 2]),


for version, (key, digest) in VERSIONS.items():

    rule:
        name:
            f"probe_{version}"
        input:
            minuend=INPUTS[0],
            subtrahend=INPUTS[1],
        output:
            text=f"results/{version}_{{seed}}.txt",
        log:
            f"logs/probe/{version}_{{seed}}.log",
        cache: True
        params:
            version=version,
            code=digest,
            cache_key=key,
        script:
            "../scripts/probe.py"
