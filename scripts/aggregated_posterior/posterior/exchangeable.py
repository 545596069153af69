"""Rows that are not independent draws: found, counted, and kept together.

Every error and every held-out bound presumes that rows were drawn independently. A row that stands in a file twenty
times, a held-out row that is a training row as well, and the patches of one image break that: a density that has seen a
row "predicts" its copies. Such rows are put into one group, and groups are held out whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..storage import DataError
from ..streams import stream
from .labels import numbering
from .mixture import SMALLEST_VARIANCE, AggregatedPosterior
from .other_laws import Codes, StreamedPosterior, take_rows
from .splits import FEWEST_ROWS, HELD_OUT_SHARE, Posteriors

# Two rows are one if means (in units of the spread of Q) and log-variances agree to this: what the rounding of one
# encoder in another batch, or on another device, leaves.
SAME = 1e-5
# Of few dimensions, chance brings rows this near: there rows have to agree to a thousandth of the usual distance.
OF_USUAL_DISTANCE = 1e-3
# Neighbours along a random direction that are compared with each row.
NEIGHBOURS = 3
# Rows nearer than this part of their posteriors' own width may be copies too: what another precision leaves (float16,
# bfloat16, TF32). They are where nearness stops: half the distance, and as many pairs. Chance makes a fourth of them in
# two dimensions and half in one.
NEARNESS = 0.05 * 2.0 ** -np.arange(8.0)
STOPS = 0.8
# Dimensions and rows by which nearness is looked for: those that tell rows apart best, and some at random. What is near
# is then compared in all dimensions.
TELLING, LOOKED_AT = 6, 20_000
# A file of fewer different rows, each repeated this often, is the table of a discrete law and no sample of anything.
DISCRETE_ROWS, DISCRETE_COPIES = 20, 50
# Copies are mentioned from this share of the rows; of one dimension, so many come by chance.
CHANCE = 1e-3
# At least this many groups are held out, so that their spread is an error.
FEWEST_HELD_OUT = 5


@dataclass(frozen=True)
class Split:
    """Rows for fitting and rows held out, with the group of each.

    source: where the held-out rows come from, as a phrase. `test` is None where nothing can be held out. discrete:
    whether the rows are a whole law and no sample (see `is_discrete`).
    """

    train: AggregatedPosterior
    test: AggregatedPosterior | None
    groups_train: np.ndarray
    groups_test: np.ndarray | None
    source: str
    discrete: bool = False


def same_rows(q: AggregatedPosterior, seed: int = 0) -> np.ndarray:
    """A number for each row (N,), the same for rows that are the same posterior, up to rounding.

    First those that agree to `SAME`. Rows are sorted along a random direction, where copies are neighbours, and
    neighbours are compared in full. Then, among those that differ, copies in another precision; see `NEARNESS`.
    """
    same = _equal_rows(q, seed)
    if isinstance(q, Codes):  # which have no width
        return same
    _, first, group = np.unique(same, return_index=True, return_inverse=True)
    return _near_rows(np.asarray(q.mean)[first], np.asarray(q.variance)[first], seed)[group]


def _near_rows(mean: np.ndarray, variance: np.ndarray, seed: int) -> np.ndarray:
    """`same_rows` of rows that differ, (N, d): those nearer than the distance at which nearness stops."""
    from scipy.spatial import cKDTree

    width = np.sqrt(variance.mean(axis=0, dtype=np.float64))
    apart = np.concatenate([mean / width, np.log(variance, dtype=np.float64)], axis=1)
    telling = np.argsort(-apart.std(axis=0), kind="stable")[:TELLING]
    tree = cKDTree(apart[:, telling])
    some = stream(seed, "audit", "near rows").permutation(len(mean))[:LOOKED_AT]
    # Every row is near to itself.
    pairs = cKDTree(tree.data[some]).count_neighbors(tree, NEARNESS, p=np.inf) - len(some)
    stops = np.flatnonzero((pairs[1:] > CHANCE * len(some)) & (pairs[1:] >= STOPS * pairs[:-1]))
    if not len(stops):
        return np.arange(len(mean))
    near = tree.query_pairs(NEARNESS[stops[0]], p=np.inf, output_type="ndarray")
    a, b = near[(np.abs(apart[near[:, 0]] - apart[near[:, 1]]) <= NEARNESS[stops[0]]).all(axis=1)].T
    return _components(a, b, len(mean))


def _equal_rows(q: AggregatedPosterior, seed: int) -> np.ndarray:
    mean = np.asarray(q.mean, dtype=np.float64)
    centre, spread = mean.mean(axis=0), np.sqrt(mean.var(axis=0) + np.mean(q.variance, axis=0, dtype=np.float64))
    spread = np.where(spread > 0, spread, 1.0)
    width = np.asarray(q.variance)
    tolerance = min(SAME, OF_USUAL_DISTANCE * q.n ** (-1 / q.latent_dim))
    direction = stream(seed, "audit", "same rows").standard_normal(q.latent_dim)
    position = ((mean - centre) / spread) @ direction
    order = np.argsort(position, kind="stable")
    reach = tolerance * float(np.abs(direction).sum())
    pairs: list[np.ndarray] = []
    for step in range(1, min(NEIGHBOURS, q.n - 1) + 1):
        left, right = order[:-step], order[step:]
        near = np.flatnonzero(position[right] - position[left] <= reach)
        for part in np.array_split(near, max(1, len(near) * q.latent_dim // 2**22)):
            a, b = left[part], right[part]
            same = (np.abs(mean[a] - mean[b]) <= tolerance * spread).all(axis=1)
            same &= (np.abs(width[a] - width[b]) <= 10 * SAME * np.minimum(width[a], width[b])).all(axis=1)
            pairs.append(np.stack([a[same], b[same]]))
    a, b = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
    return _components(a, b, q.n)


def _components(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """A number for each of `n` rows, the same for rows that a chain of the pairs (a, b) joins."""
    if not len(a):
        return np.arange(n)
    from scipy.sparse import coo_array  # here, because few inputs need it
    from scipy.sparse.csgraph import connected_components

    return connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)[1]


def group_rows(posteriors: Posteriors, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Groups of the train and the held-out rows, as one numbering, and sentences on what was found.

    Groups that the user gave are believed, also where rows in different ones are the same; without them, rows that are
    the same posterior form a group.

    Raises:
        DataError: Groups are dates in one half only.
    """
    train, test = posteriors.train, posteriors.test
    warnings = []
    if posteriors.groups_train is not None:
        names = [half for half in (posteriors.groups_train, posteriors.groups_test) if half is not None]
        groups = numbering(names, "groups")
    else:
        groups = same_rows(train if test is None else _stacked(train, test), seed)
    of_train, of_test = groups[: train.n], None if test is None else groups[train.n :]
    if posteriors.groups_train is None:
        warnings += _on_repeats(of_train, "rows")
        if of_test is not None:
            warnings += _on_repeats(of_test, "held-out rows")
    if of_test is not None:
        if overlap := _overlap(posteriors, of_train, of_test):
            warnings.append(f"{overlap}; they are left out of every held-out bound, which they would make too good")
        apart = len(np.unique(of_test[~np.isin(of_test, of_train)]))
        if 0 < apart < FEWEST_HELD_OUT and not is_discrete(train, of_train):
            warnings.append(
                f"the held-out rows are {apart} independent row(s) or group(s), fewer than {FEWEST_HELD_OUT}, and have "
                "no error that could be told: some of the training rows are held out in their place"
            )
    return of_train, of_test, warnings


def refuse_overlap(posteriors: Posteriors) -> None:
    """Raise DataError where held-out rows are training rows too, or of groups that are in the training half.

    For who cannot leave them out: bounds on them would be too good.
    """
    if posteriors.test is None:
        return
    of_train, of_test, _ = group_rows(posteriors)
    overlap = _overlap(posteriors, of_train, of_test)
    if overlap and not is_discrete(posteriors.train, of_train):
        raise DataError(f"{overlap}; give others as the test half, or none, and rows are held out here")


def _overlap(posteriors: Posteriors, of_train: np.ndarray, of_test: np.ndarray) -> str:
    """How many held-out rows are training rows too, in words; empty where chance makes as many."""
    inside = int(np.isin(of_test, of_train).sum())
    if inside <= CHANCE * len(of_test):
        return ""
    what = "training rows too" if posteriors.groups_train is None else "of groups that are in the training half"
    return f"{inside:,} of {len(of_test):,} held-out rows are {what}"


def split_groups(posteriors: Posteriors, seed: int = 0) -> tuple[Split, list[str]]:
    """Rows to fit and rows to hold out, no group in both: the file's own halves, or a seeded fifth of the groups.

    Where the file's own held-out rows are training rows too, or too few to have an error, a fifth of the training
    groups takes their place.
    """
    of_train, of_test, warnings = group_rows(posteriors, seed)
    return split_rows(posteriors, of_train, of_test, seed), warnings


def split_rows(posteriors: Posteriors, of_train: np.ndarray, of_test: np.ndarray | None, seed: int = 0) -> Split:
    """`split_groups` for groups of the train and the held-out rows that are known, as one numbering."""
    if discrete := is_discrete(posteriors.train, of_train):
        # Each row is an atom of a known law; copies are its weight and carry no dependence.
        of_train = np.arange(len(of_train))
        of_test = None if of_test is None else len(of_train) + np.arange(len(of_test))
    if of_test is not None:
        apart = discrete | ~np.isin(of_test, of_train)
        source = "the file's own held-out rows"
        enough = len(np.unique(of_test[apart])) >= FEWEST_HELD_OUT
        if enough and apart.all():
            return Split(posteriors.train, posteriors.test, of_train, of_test, source, discrete)
        if enough:
            source += f", the {int(apart.sum()):,} that are not training rows too"
            return Split(posteriors.train, take_rows(posteriors.test, apart), of_train, of_test[apart], source)
    names = np.unique(of_train)
    if len(names) < FEWEST_ROWS:
        what = "rows" if len(names) == len(of_train) else "different rows or groups"
        return Split(posteriors.train, None, of_train, None, f"none: fewer than {FEWEST_ROWS} {what}")
    held = held_out_groups(of_train, seed)
    train, test = take_rows(posteriors.train, ~held), take_rows(posteriors.train, held)
    alone = len(names) == len(of_train)
    source = (
        f"a fifth of the {'rows' if alone else 'groups'}, drawn with a fixed seed (the encoder was trained on them)"
    )
    return Split(train, test, of_train[~held], of_train[held], source, discrete)


def hold_out(posteriors: Posteriors, seed: int = 0) -> Posteriors:
    """The posteriors with a held-out half: their own, or a seeded fifth of the rows, groups and copies held out whole.

    Rows may be sorted by class or time, so they are drawn at random; both halves keep the order of the rows. The
    encoder was trained on rows of both. For the estimators of the divergence that does not matter, since they take the
    encoder as given and need only exchangeable rows; but these held-out rows say nothing about overfitting.

    Raises:
        DataError: Fewer than ten rows or groups.
    """
    if posteriors.test is not None:
        return posteriors
    groups = group_rows(posteriors, seed)[0]
    if is_discrete(posteriors.train, groups):
        groups = np.arange(len(groups))
    held = held_out_groups(groups, seed)
    changes: dict[str, object] = {}
    for half, rows in (("train", ~held), ("test", held)):
        changes[half] = take_rows(posteriors.train, rows)
        for what in ("labels", "groups"):
            values = getattr(posteriors, f"{what}_train")
            changes[f"{what}_{half}"] = None if values is None else values[rows]
    return replace(posteriors, **changes)


def held_out_groups(groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mask of the rows of whole groups, drawn at random until a fifth of the rows and five groups are held out.

    Raises:
        DataError: Fewer than ten groups.
    """
    names, code = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_ROWS:
        what = "rows" if len(names) == len(groups) else "different rows or groups"
        raise DataError(
            f"mean has {len(names)} {what} and there is no mean_test: splitting takes at least {FEWEST_ROWS} rows"
        )
    order = stream(seed, "hold out").permutation(len(names))
    filled = np.cumsum(np.bincount(code)[order])
    wanted = max(FEWEST_HELD_OUT, int(np.searchsorted(filled, round(len(groups) * HELD_OUT_SHARE))) + 1)
    chosen = np.zeros(len(names), bool)
    chosen[order[: min(wanted, len(names) // 2)]] = True
    return chosen[code]


def is_discrete(q: AggregatedPosterior, groups: np.ndarray) -> bool:
    """Whether `q` holds so few different rows, so often, that they are a law's atoms and not a sample.

    groups (N,): of its rows. A group of rows that differ, such as the rows of one user, is no atom. What is too large
    for the memory is taken for a sample.
    """
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    if not _few_and_often(groups) or isinstance(q, StreamedPosterior):
        return False
    copies = same_rows(q)
    return bool((copies == copies[first][group]).all())


def _few_and_often(groups: np.ndarray) -> bool:
    different = len(np.unique(groups))
    return different < DISCRETE_ROWS and len(groups) >= DISCRETE_COPIES * different


def _on_repeats(groups: np.ndarray, what: str) -> list[str]:
    """A sentence on copies, unless rows are atoms; `groups` are those of `same_rows`."""
    different = len(np.unique(groups))
    if len(groups) - different <= CHANCE * len(groups) or _few_and_often(groups):
        return []
    return [
        f"{len(groups) - different:,} of {len(groups):,} {what} repeat another one ({different:,} are different): "
        "copies are held out together and count once in every error; if they are independent draws after all, give "
        "every row a group of its own"
    ]


def _stacked(first: AggregatedPosterior, second: AggregatedPosterior) -> AggregatedPosterior:
    """Both halves' diagonals, for comparing rows only; codes get the smallest variance there is."""
    mean = np.concatenate([first.mean, second.mean])
    variance = np.concatenate([np.maximum(q.variance, np.float64(SMALLEST_VARIANCE)) for q in (first, second)])
    return AggregatedPosterior(mean, variance)
