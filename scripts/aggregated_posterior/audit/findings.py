"""The audit in words: what was found, and what to do about it. No statistic is born here."""

from __future__ import annotations

from typing import Any

import pandas as pd

# A part of the mismatch below this many nats is called none: it could hardly be seen in samples.
NEGLIGIBLE = 0.01
# Total variation or certified miss from which sampling the prior is called doubtful.
DOUBTFUL = 0.1
# Grain of the rows in the marginals from which distances per dimension cannot be taken for those of the model, nats.
GRAINY = 0.1


def explain(dimensions: pd.DataFrame, mismatch: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    """Sentences on activity, shape, scale, the split of the mismatch, labels and the prior."""
    train = dimensions[dimensions["split"] == "train"]
    active = train[train["active"]]
    sentences = [_activity(train, active, summary)]
    if len(active):
        sentences.append(_kurtosis(active))
        sentences.append(_marginals(active))
    sentences.append(_scale(train, summary))
    sentences.append(_split(mismatch, summary))
    if "eta_squared" in train or "r_squared" in train:
        sentences.append(_labels(train))
    sentences.append(_prior(summary, mismatch, active))
    return sentences


def advice(dimensions: pd.DataFrame, mismatch: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    """What to do, most valuable first; never empty."""
    part = mismatch.set_index("part")
    train = dimensions[dimensions["split"] == "train"]
    steps = []
    if summary["active_dimensions"] == 0:
        return [
            "No dimension is active, so the decoder ignores z and no sampler will help: train again with a smaller KL "
            "weight, or warm it up from 0."
        ]
    if part.loc["scale", "nats"] > NEGLIGIBLE:
        steps.append(
            "Rescale before anything else: draw z = mean + sqrt(variance)·ε with `mean` and `variance` of each "
            f"dimension (in --csv and --json) instead of z = ε. It saves {part.loc['scale', 'nats']:.3g} nats of KL "
            "and changes no reconstruction. The encoder had not converged (or lacks a bias, has weight decay or a "
            "bounded variance): more epochs at a decayed learning rate do the same."
        )
    if part.loc["dependence", "low"] > NEGLIGIBLE:
        steps.append(
            "Fit a density to draws from the posteriors and sample that instead of the prior: "
            "sklearn.mixture.GaussianMixture(10).fit(mean + sqrt(variance)·ε), then decode gmm.sample(n)[0]. Product "
            "laws cannot help with dependence."
        )
    elif part.loc["marginal shape", "low"] > NEGLIGIBLE:
        steps.append(
            "Sample each dimension from its own exact marginal: "
            "aggregated_posterior.marginals.Marginals(mean, variance).sample(n, rng)."
        )
    if pd.isna(part.loc["dependence", "nats"]):
        low = part.loc["dependence", "low"]
        unknown = "Treat the dependence as unknown, not as large"
        begin = unknown if low <= NEGLIGIBLE else f"How much dependence there is beyond {low:.3g} nats is open"
        steps.append(
            f"{begin}: {summary['n']:,} rows cannot settle it. More rows, or fewer active dimensions, narrow it; judge "
            "samplers by their images meanwhile."
        )
    inactive = len(train) - summary["active_dimensions"]
    if inactive:
        steps.append(
            f"Leave the {_count(inactive, 'inactive dimension')} out of any fit: a latent size of "
            f"{summary['active_dimensions']} carries the same."
        )
    doubtful = part.loc["total", "low"] > NEGLIGIBLE
    if not steps or not doubtful:
        steps.append("Sampling N(0, I) is in order as far as these rows can tell.")
    return steps


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _listed(numbers: pd.Series, most: int = 16) -> str:
    values = [str(int(n)) for n in numbers]
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def _activity(train: pd.DataFrame, active: pd.DataFrame, summary: dict[str, Any]) -> str:
    text = (
        f"{len(active)} of {_count(len(train), 'dimension')} "
        f"{'is' if len(active) == 1 else 'are'} active (mean KL above {summary['active_threshold']:g} nat)"
    )
    if len(active):
        text += f": {_listed(active['dimension'])}"
    return text + f". Mean KL is {summary['mean_kl']:.4g} nats in all."


def _kurtosis(active: pd.DataFrame) -> str:
    away = active[(active["kurtosis_low"] > 3.1) | (active["kurtosis_high"] < 2.9)]
    text = (
        f"Kurtosis of the active dimensions runs from {active['kurtosis'].min():.3f} to {active['kurtosis'].max():.3f} "
        f"(3 if normal); {len(away)} of {len(active)} {'is' if len(away) == 1 else 'are'} outside 3 ± 0.1"
    )
    causes = away.loc[away["cause"] != "", "cause"].value_counts()
    if len(causes):
        text += ", because of " + ", ".join(f"{cause} ({number})" for cause, number in causes.items())
    return text + "."


def _marginals(active: pd.DataFrame) -> str:
    worst = active.loc[active["marginal_kl"].idxmax()]
    text = (
        f"After rescaling, dimension {worst['dimension']} is farthest from N(0, 1): KL {worst['marginal_kl']:.3g} "
        f"nats, KS {worst['ks']:.3f}, total variation {worst['tv']:.1%}."
    )
    decoys = active[((active["kurtosis"] - 3).abs() < 0.1) & (active["marginal_kl"] > 0.05)]
    if len(decoys):
        text += f" Kurtosis near 3 hides this in dimension {_listed(decoys['dimension'])}: it is no test of normality."
    return text


def _scale(train: pd.DataFrame, summary: dict[str, Any]) -> str:
    off = train[train["gauge_slack"] > NEGLIGIBLE]
    slack = summary["gauge_slack"]
    if slack <= NEGLIGIBLE:
        return f"Scale is right: mean 0 and variance 1 within {slack:.2g} nats. That says nothing about normality."
    where = f", mostly in dimension {_listed(off.sort_values('gauge_slack', ascending=False)['dimension'], 5)}"
    return (
        f"Scale is off: {slack:.3g} nats of KL could be had for free by moving and rescaling dimensions"
        f"{where if len(off) else ''}."
    )


def _split(mismatch: pd.DataFrame, summary: dict[str, Any]) -> str:
    part = mismatch.set_index("part")
    low, high = part.loc["total", ["low", "high"]]
    scale = part.loc["scale", "nats"]
    text = f"KL(Q‖N(0, I)) is {_interval(low, high)} nats: scale {scale:.3g}, marginal shape "
    text += f"{_interval(*part.loc['marginal shape', ['low', 'high']])}, "
    text += f"dependence {_interval(*part.loc['dependence', ['low', 'high']])}"
    if low > NEGLIGIBLE and not part.loc[:, "nats"].isna().any():
        total = part.loc["total", "nats"]
        shares = [f"{part.loc[name, 'nats'] / total:.0%} {name}" for name in ("scale", "marginal shape", "dependence")]
        text += f" ({', '.join(shares)})"
    text += f". Correlation alone is worth {summary['correlation_kl']:.3g}."
    if pd.isna(part.loc["dependence", "nats"]):
        text += (
            f" The interval is wide because N rows tell apart at most ln N = {summary['log_n']:.3g} nats: its lower "
            "end is certified on held-out rows, its upper end is what these rows show by themselves."
        )
    if (summary["grain"] or 0.0) > GRAINY:
        text += (
            " Posteriors are so narrow that even single marginals are spiky: the distances per dimension hold for "
            "these rows, and would shrink with more of them."
        )
    return text


def _interval(low: float, high: float) -> str:
    return f"{high:.3g}" if high - low < 0.01 else f"between {low:.3g} and {high:.3g}"


def _labels(train: pd.DataFrame) -> str:
    column, symbol = ("eta_squared", "η²") if "eta_squared" in train else ("r_squared", "r²")
    best = train.loc[train[column].idxmax()]
    if best[column] < 0.01:
        return f"Labels have nothing to do with any single dimension ({symbol} below 0.01 everywhere)."
    return f"Labels account for most in dimension {best['dimension']} ({symbol} = {best[column]:.2f})."


def _prior(summary: dict[str, Any], mismatch: pd.DataFrame, active: pd.DataFrame) -> str:
    if not len(active):
        return "Sampling the prior: every draw decodes to much the same, because z carries nothing."
    rescaled = summary["prior_misses_canonical"] or 0.0
    if summary["grain"] is None or summary["grain"] <= GRAINY:
        # A single marginal's total variation bounds that of the joint law from below.
        rescaled = max(rescaled, float(active["tv"].max()))
    raw = summary["prior_misses_raw"] or 0.0
    if summary["gauge_slack"] <= NEGLIGIBLE:
        raw = rescaled
    share = f"{max(raw, rescaled):.0%}" if raw == rescaled else f"{raw:.0%} ({rescaled:.0%} after rescaling)"
    certified = f"at least {share} of the prior's draws would have to move to follow Q(z), the law the decoder knows"
    if max(raw, rescaled) >= DOUBTFUL:
        return f"Sampling the prior is doubtful: {certified}."
    if pd.isna(mismatch.set_index("part").loc["dependence", "nats"]):
        return f"Sampling the prior: {certified}; these rows cannot certify more."
    return f"Sampling the prior does little harm that shows: {certified}."
