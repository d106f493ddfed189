"""Results of several hospitals → one: rows are pooled exactly, aggregates give a random-effects analysis."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import chain, combinations

from imaging.errors import ConfigError, Reason
from imaging.evaluation.evaluate import evaluate_again
from imaging.evaluation.result import (
    SUPPRESSED_BELOW,
    Comparison,
    Counts,
    EvaluationResult,
    Figure,
    Inputs,
    Subgroup,
)
from imaging.evaluation.sites import between_sites, extremes, withheld

# Stands for every group that aggregates do not show.
_HIDDEN = Subgroup("too few patients to be shown", None, None, suppressed=True)


def merge(results: Sequence[EvaluationResult], manifests: Collection[str] | None = None) -> EvaluationResult:
    """One record of all results.

    Where every result holds its rows, the figures are exactly those of evaluating all cases together. Where one holds
    aggregates only, all are taken as aggregates: each site's figures, their macro mean and worst site, and random
    effects; there are no pooled figures then. Comparisons with a second model stay in the hospitals' own files.

    All must agree in task, protocol, toolkit, weights and configuration, and in the manifest; where every site has
    its own manifest, `manifests` are the SHA-256 that are approved. Raises ConfigError otherwise, and for a case or
    site that stands in two results.
    """
    if not results:
        raise ConfigError("merge: found 0 results; allowed are one or more", Reason.CONFIG_INVALID)
    _refuse_differences(results, manifests)
    inputs = replace(results[0].inputs, manifest=_one([r.inputs.manifest for r in results]))
    if not all(_has_rows(result) for result in results):
        return _merge_aggregates([without_cases(result) for result in results], inputs)
    merged = evaluate_again(
        replace(
            results[0],
            inputs=inputs,
            detection=tuple(chain.from_iterable(r.detection for r in results)),
            segmentation=tuple(chain.from_iterable(r.segmentation for r in results)),
            classification=tuple(chain.from_iterable(r.classification for r in results)),
        )
    )
    return replace(merged, remarks=_all_remarks(results))


def _all_remarks(results: Sequence[EvaluationResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(result.remarks for result in results)))


def without_cases(result: EvaluationResult) -> EvaluationResult:
    """The record as it may leave a hospital that gives no rows: aggregates, with counts from 1 to 4 suppressed.

    A figure that rests on fewer than five is suppressed with its counts. A group that is not shown has no name either:
    a site of one patient is often a name of that patient. Remarks quote the table, so that their number alone leaves.
    """
    sites = _without_names(result.sites)
    return replace(
        result,
        pooled=_suppressed(result.pooled),
        sites=sites,
        macro=extremes(sites),
        heterogeneity=between_sites(sites),
        subgroups={name: _without_names(groups) for name, groups in result.subgroups.items()},
        detection=(),
        segmentation=(),
        classification=(),
        comparison=_suppressed_comparison(result.comparison),
        remarks=_counted(result),
    )


def _counted(result: EvaluationResult) -> tuple[str, ...]:
    """The remarks of a record that leaves: their number; those of a record without rows are such a number already."""
    if not (result.cases and result.remarks):
        return result.remarks
    return (f"{len(result.remarks)} remarks on the table and its files are kept where its rows are",)


def _without_names(groups: Sequence[Subgroup]) -> tuple[Subgroup, ...]:
    """Groups under the rule; those that are not shown are one without a name, which might be that of one patient."""
    sizes = {group.name: SUPPRESSED_BELOW if group.n_patients is None else group.n_patients for group in groups}
    hidden = withheld(sizes) | {group.name for group in groups if group.suppressed or group.n_patients is None}
    shown = [_suppressed(group) for group in groups if group.name not in hidden]
    return (*shown, *([_HIDDEN] if hidden else []))


def _suppressed_comparison(both: Comparison | None) -> Comparison | None:
    """The second model under the same rule; without differences where either side of them is suppressed."""
    if both is None:
        return None
    pooled = _suppressed(both.pooled)
    shown = {figure.name for figure in pooled.figures if figure.value is not None}
    differences = tuple(d for d in both.differences if d.name in shown)
    return Comparison(pooled, _without_names(both.sites), differences)


def told_twice(results: Sequence[EvaluationResult]) -> list[str]:
    """A remark for each two sites of which at least half of the smaller one's rows are equal in all but the site."""
    rows: dict[str, set[str]] = defaultdict(set)
    for case in chain.from_iterable(result.cases for result in results):
        rows[case.site].add(repr(replace(case, site="", subgroups=())))
    remarks = []
    for one, other in combinations(sorted(rows), 2):
        least, equal = min(len(rows[one]), len(rows[other])), len(rows[one] & rows[other])
        if equal > 1 and 2 * equal >= least:
            remarks.append(
                f"{equal} of {least} rows of the sites '{one}' and '{other}' are equal in case, patient, truth and "
                "result; if they are the same patients, the intervals are too narrow"
            )
    return remarks


def _suppressed(group: Subgroup) -> Subgroup:
    if group.n_patients is None or group.n_patients < SUPPRESSED_BELOW:
        return Subgroup(group.name, None, None, suppressed=True)
    return replace(group, figures=tuple(_suppressed_figure(figure) for figure in group.figures))


def _suppressed_figure(figure: Figure) -> Figure:
    counts = figure.counts
    hidden = Counts(
        *(
            None if n is None or 0 < n < SUPPRESSED_BELOW else n
            for n in (
                counts.n_total,
                counts.n_scored,
                counts.n_missed,
                counts.n_false_positive_on_empty,
                counts.n_failed,
            )
        )
    )
    if hidden.n_total is None:
        absent = f"suppressed (fewer than {SUPPRESSED_BELOW})"
        return replace(figure, value=None, counts=hidden, interval=None, absent=absent, effect=None)
    absent = "n/a (too few)" if figure.absent else ""
    interval = figure.interval
    if interval is not None and interval.n_clusters is not None and interval.n_clusters < SUPPRESSED_BELOW:
        interval = replace(interval, n_clusters=None, coverage=None)
    return replace(figure, counts=hidden, absent=absent, interval=interval)


def _has_rows(result: EvaluationResult) -> bool:
    return bool(result.detection or result.segmentation or result.classification)


def _merge_aggregates(results: Sequence[EvaluationResult], inputs: Inputs) -> EvaluationResult:
    every = sorted(chain.from_iterable(r.sites for r in results), key=lambda group: group.name)
    sites = (*(group for group in every if group != _HIDDEN), *([_HIDDEN] if _HIDDEN in every else []))
    twice = sorted(name for name, n in Counter(group.name for group in sites).items() if n > 1)
    if twice:
        raise ConfigError(
            f"merge, site: found '{twice[0]}' in two results of aggregates; allowed is one result per site",
            Reason.CONFIG_INVALID,
        )
    sizes = [(group.n_cases, group.n_patients) for group in sites if group.n_cases is not None and group.n_patients]
    whole = len(sizes) == len(sites)
    pooled = Subgroup(
        "pooled", sum(n or 0 for n, _ in sizes) if whole else None, sum(n or 0 for _, n in sizes) if whole else None
    )
    return replace(
        results[0],
        inputs=inputs,
        pooled=pooled,
        sites=sites,
        macro=extremes(sites),
        heterogeneity=between_sites(sites),
        subgroups={},
        comparison=None,
        remarks=_all_remarks(results),
    )


def _one(values: Sequence[str]) -> str:
    """The one value, or all distinct ones joined: each site then has a manifest of its own."""
    return "+".join(sorted(set(values)))


def _refuse_differences(results: Sequence[EvaluationResult], manifests: Collection[str] | None) -> None:
    first = results[0]
    for number, other in enumerate(results[1:], start=2):
        facts = {
            "task": (first.task, other.task),
            "toolkit": (first.toolkit, other.toolkit),
            "weights": (first.inputs.weights, other.inputs.weights),
            "configuration": (first.inputs.configuration, other.inputs.configuration),
        }
        if manifests is None:
            facts["manifest"] = (first.inputs.manifest, other.inputs.manifest)
        keys = sorted({*first.protocol, *other.protocol})
        facts |= {f"protocol, {key}": (str(first.protocol.get(key)), str(other.protocol.get(key))) for key in keys}
        for name, (here, there) in facts.items():
            if here != there:
                unless = ", or each be approved by --manifest" * (name == "manifest")
                raise ConfigError(
                    f"merge, {name}: result 1 has '{here}' and result {number} has '{there}'; they must be equal"
                    f"{unless}",
                    Reason.CONFIG_INVALID,
                )
    for number, result in enumerate(results, start=1):
        if manifests is not None and result.inputs.manifest not in manifests:
            raise ConfigError(
                f"merge, manifest: result {number} has '{result.inputs.manifest}', which is not approved; "
                f"allowed are {sorted(manifests)}",
                Reason.CONFIG_INVALID,
            )
