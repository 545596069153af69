"""The audit in words: the verdict, what was found, and what to do about it. No statistic is born here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..generation.chosen_sampler import NORMAL, PRIOR, RESCALED

# A part of the mismatch below this many nats is called none: it could hardly be seen in samples.
NEGLIGIBLE = 0.01
# Certified miss, and certified nats, from which sampling the prior is called doubtful.
DOUBTFUL, DOUBTFUL_NATS = 0.1, 0.5
# Grain of the rows in the marginals from which distances per dimension cannot be taken for those of the model, nats.
GRAINY = 0.1
# Mean KL per active dimension from which the KL term can hardly have had its weight, nats: a width of 1/400.
HUGE_KL = 6.0
# Rescaling is not advised where it makes the prior miss this much more of Q.
RUINOUS = 0.3


def judge(dimensions: pd.DataFrame, mismatch: pd.DataFrame, summary: dict[str, Any]) -> tuple[str, str]:
    """The verdict: "doubtful", "open", "in order" or "collapsed", and the sentence for it with its numbers."""
    train = dimensions[dimensions["split"] == "train"]
    active = train[train["active"]]
    if not len(active):
        return "collapsed", "Sampling N(0, I): every draw decodes to much the same, because no dimension is active."
    if summary["own_prior"] is not None:
        return _judge_own(summary["own_prior"])
    low, high = mismatch.set_index("part").loc["total", ["low", "high"]]
    nats = f"KL(Q‖N(0, I)) is {_interval(low, high)} nats"
    if summary["certified"] is None:
        held = f"nothing could be held out ({summary['held_out'].removeprefix('none: ')})"
        return "open", f"Whether N(0, I) can be sampled is open: {held}. Of these rows alone, {nats}."
    raw, rescaled = _missed(summary, active)
    worst = max(raw, rescaled)
    share = (
        _percent(worst) if abs(raw - rescaled) < 0.005 else f"{_percent(raw)} ({_percent(rescaled)} after rescaling)"
    )
    certified = f"at least {share} of its draws would have to move to follow Q(z), the law the decoder knows"
    if worst < 0.005:
        certified = "nothing shows where its draws miss Q(z)"
    if worst >= DOUBTFUL or summary["certified"] >= DOUBTFUL_NATS:
        return "doubtful", f"Sampling N(0, I) is doubtful: {certified}, and {nats}."
    if high - low > 1:
        known = certified if worst >= 0.005 else "nothing certified speaks against it"
        return "open", f"Whether N(0, I) can be sampled is open: {known}, but these rows leave {nats}."
    return "in order", f"Sampling N(0, I) does little harm that shows: {certified}, and {nats}."


def _judge_own(own: dict[str, Any]) -> tuple[str, str]:
    """`judge` of a prior of the user's own, which then is what is sampled."""
    name = f"your own prior ({own['description']})"
    if own["misses"] is None:
        return "open", f"Whether {name} can be sampled is open: nothing could be held out to compare it with."
    certified = f"at least {_percent(own['misses'])} of its draws would have to move to follow Q(z)"
    if own["misses"] < 0.005:
        certified = "nothing shows where its draws miss Q(z)"
    if own["certified"]:
        certified += f", and KL(Q‖your prior) is at least {own['certified']:.3g} nats"
    if own["misses"] >= DOUBTFUL or (own["certified"] or 0.0) >= DOUBTFUL_NATS:
        return "doubtful", f"Sampling {name} is doubtful: {certified}."
    if own["gain"] is None or _gains_over_own(own):
        more = "draws alone do not tell its density" if own["gain"] is None else "something else gains over it"
        return "open", f"Whether {name} can be sampled is open: {certified}, but {more}."
    return "in order", f"Sampling {name} does little harm that shows: {certified}, and nothing gains over it."


def explain(dimensions: pd.DataFrame, mismatch: pd.DataFrame, summary: dict[str, Any]) -> list[str]:
    """Sentences on activity, shape, scale, the split of the mismatch, labels, and a prior of one's own."""
    train = dimensions[dimensions["split"] == "train"]
    active = train[train["active"]]
    sentences = [_activity(train, active, summary)]
    if summary["discrete"]:
        sentences.append(
            "The file holds very few different rows, each many times: they are taken for the whole law, not for a "
            "sample of a larger one, and nothing here holds for other data."
        )
    if len(active):
        sentences.append(_kurtosis(active))
        sentences.append(_marginals(active, summary))
    if summary["own_prior"] is None:  # scale is measured against N(0, I)
        sentences.append(_scale(train, summary))
    sentences.append(_split(mismatch, summary))
    sentences += _labels(train)
    if "scaling_factor" in summary:
        sentences.append(
            f"In the words of diffusion code: shift_factor {summary['shift_factor']:.4g}, scaling_factor "
            f"{summary['scaling_factor']:.4g} (one number for all channels); latents_mean and latents_std per channel "
            "are in --json."
        )
    if summary["own_prior"] is not None:
        sentences.append(_own_prior(summary["own_prior"], summary["advised_sampler"]))
    return sentences


def advice(
    dimensions: pd.DataFrame, mismatch: pd.DataFrame, candidates: pd.DataFrame, summary: dict[str, Any]
) -> list[str]:
    """What to do: causes that outweigh all else, then remedies by what each buys, then what is open; never empty."""
    train = dimensions[dimensions["split"] == "train"]
    if summary["active_dimensions"] == 0:
        return [
            "No dimension is active, so the decoder ignores z and no sampler will help: train again with a smaller KL "
            "weight, or warm it up from 0. The usual cause is a reconstruction averaged over pixels against a KL "
            "summed over dimensions: sum both over an image and average over the batch."
        ]
    part = mismatch.set_index("part")
    gain = candidates.set_index("candidate")["gain"] if len(candidates) else pd.Series(dtype=float)
    if summary["own_prior"] is not None:
        return _own_prior_remedy(summary["own_prior"], summary["advised_sampler"])
    steps = sorted(_remedies(part, gain, candidates, summary), key=lambda step: -step[0])
    sentences = [sentence for _, sentence in steps]
    per_dimension = summary["mean_kl"] / summary["active_dimensions"]
    if per_dimension > HUGE_KL:
        sentences.insert(0, _unequal_terms(per_dimension))
    if np.isnan(part.loc["dependence", "nats"]):
        sentences.append(_open(part, summary))
    inactive = len(train) - summary["active_dimensions"]
    if inactive:
        sentences.append(
            f"Leave the {_count(inactive, 'inactive dimension')} out of any fit: a latent size of "
            f"{summary['active_dimensions']} carries the same."
        )
    if summary["verdict"] == "in order" and not steps:
        sentences.append("Sampling N(0, I) is in order as far as these rows can tell.")
    return sentences


def _remedies(
    part: pd.DataFrame, gain: pd.Series, candidates: pd.DataFrame, summary: dict[str, Any]
) -> list[tuple[float, str]]:
    """(nats, sentence) for each remedy that buys something on rows that were held out; none without any."""
    if not len(candidates):
        return []
    steps = []
    slack = part.loc["scale", "nats"]
    raw, rescaled = (summary[f"prior_misses_{form}"] or 0.0 for form in ("raw", "canonical"))
    ruinous = rescaled > raw + RUINOUS or gain.get(RESCALED, slack) < min(0.0, slack - 1)
    supported = candidates.set_index("candidate").loc[RESCALED, "gain_low"] > 0
    if slack > NEGLIGIBLE and supported and not ruinous:
        steps.append(
            (
                slack,
                "Rescale: draw z = mean + sqrt(variance)·ε with `mean` and `variance` of each dimension (in --csv and "
                f"--json) instead of z = ε. It buys {slack:.3g} nats of KL and changes no reconstruction. The encoder "
                "had not converged (or lacks a bias, has weight decay or a bounded variance): more epochs at a decayed "
                "learning rate do the same.",
            )
        )
    best = summary["advised_sampler"]
    if best is not None and best not in (PRIOR, RESCALED):
        row = candidates.set_index("candidate").loc[best]
        more = row["gain"] - gain[RESCALED]
        if more > NEGLIGIBLE and row["gain_low"] > 0:
            steps.append(
                (
                    more,
                    "Fit a density to draws from the posteriors and sample that instead of the prior: "
                    f"{_article(best)} buys {more:.3g} nats on held-out rows beyond rescaling "
                    f"({row['gain']:.3g} ± {row['gain_se']:.2g} over N(0, I) as it is). `aggregated-posterior fit FILE "
                    "-o sampler.safetensors` makes one, and `aggregated-posterior sample` draws from it.",
                )
            )
    shape_low = part.loc["marginal shape", "low"]
    if all(sentence.startswith("Rescale") for _, sentence in steps) and shape_low > NEGLIGIBLE:
        steps.append(
            (
                shape_low,
                f"Sample each dimension from its own exact marginal, which buys {shape_low:.3g} nats: "
                "aggregated_posterior.statistics.marginals.Marginals(mean, variance).sample(n, rng).",
            )
        )
    return steps


def _gains_over_own(own: dict[str, Any]) -> bool:
    return own["gain"] is not None and own["gain"] - 2 * np.nan_to_num(own["gain_se"]) > NEGLIGIBLE


def _own_prior_remedy(own: dict[str, Any], best: str | None) -> list[str]:
    if own["misses"] is None:
        return ["Give more rows: nothing could be held out, so that nothing can be said of your own prior."]
    if _gains_over_own(own):
        bought = f"{own['gain']:.3g} ± {own['gain_se']:.2g} nats on held-out rows"
        return [f"Sample {_article(best)} instead of your own prior: it buys {bought}."]
    if own["gain"] is None:
        return ["Give your own prior as a mixture, if it is one: draws of it show where it misses Q(z), and no nats."]
    return ["Keep your own prior: nothing that was fitted to these rows gains over it."]


def _unequal_terms(per_dimension: float) -> str:
    return (
        f"Look at the loss first: a mean KL of {per_dimension:.3g} nats per active dimension says that the KL term "
        "weighed next to nothing. The usual cause is that one term is averaged where the other is summed: a KL "
        "averaged over dimensions or batch against a reconstruction summed over pixels (the reverse, a reconstruction "
        "averaged over pixels against a summed KL, collapses dimensions instead). Sum both over an image and average "
        "both over the batch. Where so small a weight is meant, as for latent diffusion, the prior is not what is "
        "sampled, and this is no fault."
    )


def _open(part: pd.DataFrame, summary: dict[str, Any]) -> str:
    low = part.loc["dependence", "low"]
    unknown = "Treat the dependence as unknown, not as large"
    begin = unknown if low <= NEGLIGIBLE else f"How much dependence there is beyond {low:.3g} nats is open"
    held = "different rows or groups" if summary["groups"] < summary["n"] else "rows"
    return (
        f"{begin}: {summary['groups']:,} {held} cannot settle it. More of them, or fewer active dimensions, narrow it; "
        "judge samplers by their images meanwhile."
    )


def _missed(summary: dict[str, Any], active: pd.DataFrame) -> tuple[float, float]:
    """Certified shares of the prior's draws that miss Q, raw and after rescaling."""
    rescaled = summary["prior_misses_canonical"] or 0.0
    if (summary["grain"] or 0.0) <= GRAINY and active["tv"].notna().all():
        # A single marginal's total variation bounds that of the joint law from below.
        rescaled = max(rescaled, float(active["tv"].max()))
    raw = summary["prior_misses_raw"] or 0.0
    return (rescaled if summary["gauge_slack"] <= NEGLIGIBLE else raw), rescaled


def _grainy(summary: dict[str, Any]) -> bool:
    """Whether single marginals are those of these rows and not of the law that the rows come from.

    Where nothing could be held out, nobody knows: then the rows are taken for the law.
    """
    grain = summary["grain"] or 0.0
    return grain > GRAINY and grain > 0.5 * summary["shape"]


def _article(candidate: str) -> str:
    names = {PRIOR: "N(0, I)", RESCALED: "N(0, I) rescaled", NORMAL: "one normal law with the covariance of Q"}
    return names.get(candidate, f"a {candidate.replace(', ', ' normal laws with ')} covariances")


def _percent(share: float) -> str:
    return f"{min(share, 0.99):.0%}"  # a share that is certified is never all


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _listed(numbers: pd.Series, most: int = 16) -> str:
    values = [str(int(n)) for n in numbers]
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


def _activity(train: pd.DataFrame, active: pd.DataFrame, summary: dict[str, Any]) -> str:
    if np.isnan(summary["mean_kl"]):
        text = f"{len(active)} of {_count(len(train), 'dimension')} of the codes vary (variance above 0.01)"
        return text + (f": {_listed(active['dimension'])}." if len(active) else ".")
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


def _marginals(active: pd.DataFrame, summary: dict[str, Any]) -> str:
    if _grainy(summary):
        return (
            "Posteriors are so narrow that even single marginals are spiky: KL, KS and total variation per dimension "
            "are those of these rows, would shrink with more of them, and say nothing of the model."
        )
    if active["marginal_kl"].isna().all():
        worst = active.loc[active["ks"].idxmax()]
        text = f"After rescaling, dimension {worst['dimension']} is farthest from N(0, 1)"
        return f"{text}: KS {worst['ks']:.3f}, W1 {worst['w1']:.3f}."
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
    text += "."
    if summary["correlation_kl"] is not None:
        text += f" Correlation alone is worth {summary['correlation_kl']:.3g}."
    if np.isfinite(high) and high - low > 1:
        text += (
            " The interval is wide because its lower end is certified on held-out rows and its upper end is what these "
            "rows show by themselves"
        )
        # Beside a certified number above ln N the reason would be another one.
        few = f", and rows of this number tell apart at most ln N = {summary['log_n']:.3g} nats of mutual information"
        text += (few if low < summary["log_n"] else "") + "."
    return text


def _interval(low: float, high: float) -> str:
    if not np.isfinite(high):
        return f"at least {low:.3g}"
    return f"{high:.3g}" if high - low < 0.01 * max(1.0, high) else f"between {low:.3g} and {high:.3g}"


def _labels(train: pd.DataFrame) -> list[str]:
    sentences = []
    for column in train.columns:
        kind = next((kind for kind in ("eta_squared", "r_squared") if column.startswith(kind)), None)
        if kind is None or train[column].isna().all():  # of the held-out rows alone
            continue
        symbol = "η²" if kind == "eta_squared" else "r²"
        name = column.removeprefix(kind).removeprefix("_")
        subject = f"Labels {name}" if name else "Labels"
        best = train.loc[train[column].idxmax()]
        if best[column] < 0.01:
            sentences.append(
                f"{subject} have nothing to do with any single dimension ({symbol} below 0.01 everywhere)."
            )
        else:
            sentences.append(
                f"{subject} account for most in dimension {best['dimension']} ({symbol} = {best[column]:.2f})."
            )
    return sentences


def _own_prior(own: dict[str, Any], best: str | None) -> str:
    if own["misses"] is None:
        return f"Your own prior ({own['description']}) was compared with nothing: no rows could be held out."
    text = f"Against your own prior ({own['description']}): at least {_percent(own['misses'])} of its draws would have "
    text += "to move to follow Q(z)"
    if own["certified"] is not None:
        text += f"; KL(Q‖your prior) is at least {own['certified']:.3g} nats (certified), and {_article(best)} gains "
        text += f"{own['gain']:.3g} ± {own['gain_se']:.2g} over it on held-out rows"
    return text + "."
