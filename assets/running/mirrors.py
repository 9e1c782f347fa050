"""Per source: what is known of its mirrors, as an asset of its own and a check of it.

No run makes that asset: whoever looks at the mirrors tells it what was found. So it is fresh only
if somebody looked, and archives that were fetched long ago are neither checked nor looked for
where they are merely used.

Not here: looking at a place (`pipelines.archives.probes`), or when that happens (`sensors`,
`refresh`). What was found is kept where Dagster keeps it: the latest event of a source's mirrors
says what is known of each place, so that only what changed since then need be fetched and compared.

Annotations are not postponed here: Dagster reads that of a check's context.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from assets import archives as assets_of_archives
from assets import metadata, spelling
from assets.checks import as_table, in_lines
from assets.settings import Settings
from pipelines import archives
from pipelines.archives import Identify, looks, probes
from pipelines.archives.probes import Probe, Standing
from pipelines.declarations import Archive, Catalogue, Source
from pipelines.errors import DownloadFailed
from pipelines.plan import parts_of_archives
from pipelines.redaction import without_secrets
from pipelines.store import layout

CHECK = "mirrors_serve_the_declared_bytes"
DATA_VERSION = "dagster/data_version"
# A look each week, and two days for whoever starts it late.
FRESH = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=9), warn_window=timedelta(days=8))

logger = logging.getLogger("pipelines.mirrors")


def key(source: str) -> dg.AssetKey:
    """Return the asset key of a source's mirrors."""
    return dg.AssetKey([source, "mirrors"])


def spec(source: Source) -> dg.AssetSpec:
    """Return the asset of a source's mirrors, which shows what the last look at them found."""
    return dg.AssetSpec(
        key(source.name),
        description=f"The places that serve `{source.name}/archives`, as the last look found them. "
        "A look asks for sizes and versions and fetches nothing that did not change. The job "
        "`refresh` looks, the sensor `mirrors_changed`, and the check, on a click; making archives "
        "does not. The freshness policy fails where nobody looked for nine days.",
        group_name=metadata.group("archives", source),
        owners=metadata.OWNERS,
        tags=metadata.tags("mirrors", source),
        freshness_policy=FRESH,
    )


@dataclass(frozen=True, slots=True)
class Mirrors:
    """What is known of the mirrors of a source: the standing of each place that was looked at."""

    source: str
    standings: tuple[Standing, ...]
    archives: tuple[str, ...]  # the archive at each place

    @property
    def version(self) -> str:
        """One version for all that the mirrors serve."""
        return probes.version(self.standings)

    @property
    def wrong(self) -> dict[str, str]:
        """Place → what is wrong with the bytes that it serves."""
        return {s.probe.place: s.wrong for s in self.standings if s.is_wrong}

    @property
    def dead(self) -> dict[str, str]:
        """Place → why the file can't be had there now."""
        probes = [s.probe for s in self.standings if s.probe.status == "dead"]
        return {probe.place: probe.problem or "" for probe in probes}

    @property
    def unjudged(self) -> dict[str, str]:
        """Place → which version lies there that nobody compared with the declared bytes."""
        probes = {s.probe: s.judged for s in self.standings if s.probe.status == "alive"}
        return {
            probe.place: f"another version lies there ({probe.version})"
            for probe, judged in probes.items()
            if probe.version != judged
        }

    @property
    def alive(self) -> dict[str, bool]:
        """Mirror → whether it gives every archive of the source."""
        found: dict[str, bool] = {}
        for standing, archive in zip(self.standings, self.archives, strict=True):
            if standing.probe.status == "not probed":
                continue
            mirror = archives.mirror_of(standing.probe.place, archive)
            is_alive = standing.probe.status == "alive"
            found[mirror] = found.get(mirror, True) and is_alive
        return found

    def told(self) -> dg.AssetMaterialization:
        """Return what is known, as Dagster keeps it and plots its numbers over time."""
        return dg.AssetMaterialization(
            key(self.source),
            description="What the mirrors say of the archives, without fetching them.",
            metadata={
                "by mirror": dg.MetadataValue.md(self._by_mirror),
                **self._figures,
                "places": _as_table(self.standings),
            },
            tags={DATA_VERSION: self.version},
        )

    def result(self) -> dg.AssetCheckResult:
        """Return the outcome of the check, for its own step."""
        return dg.AssetCheckResult(**self._verdict)

    @property
    def events(self) -> tuple[dg.AssetMaterialization, dg.AssetCheckEvaluation] | tuple[()]:
        """Return what is known and the outcome of the check; nothing where nobody looked."""
        evaluation = dg.AssetCheckEvaluation(**self._verdict)
        return (self.told(), evaluation) if self.alive else ()

    @property
    def trouble(self) -> str:
        """What is wrong with the mirrors and what to do about it; empty if nothing is."""
        source = f"{self.source}.toml"
        if self.wrong:
            return (
                _lines(self.wrong)
                + "What lies in the data folder was verified when it came, and is kept. If the "
                "publisher has released other files, declare their bytes, md5 and sha256 in "
                f"{source}; if not, take the mirror out of it until it is mended."
            )
        if self.dead:
            failing = [mirror for mirror, is_alive in self.alive.items() if not is_alive]
            alive = len(self.alive) - len(failing)
            return (
                f"{alive} of {len(self.alive)} mirrors give every archive now. These do not: "
                f"{', '.join(failing)}\n{_lines(self.dead)}What lies in the data folder is kept; "
                f"declare another mirror in {source}, or name one with IMAGESETS_MIRROR, before it "
                "is needed."
            )
        if self.unjudged:
            return (
                _lines(self.unjudged)
                + "Nobody compared those bytes with the declared ones yet. A refresh does."
            )
        if not self.alive:
            return (
                f"No mirror of {self.source} was looked at: IMAGESETS_OFFLINE forbids connections, "
                "or none is declared that can be asked without fetching from it."
            )
        return ""

    @property
    def _verdict(self) -> dict[str, Any]:
        """Whether no mirror serves other bytes than the declared ones."""
        return {
            "check_name": CHECK,
            "asset_key": key(self.source),
            "passed": not self.trouble,
            "severity": dg.AssetCheckSeverity.ERROR if self.wrong else dg.AssetCheckSeverity.WARN,
            "description": in_lines(self.trouble)
            or "Every mirror that can be asked answers, and none shows other bytes than those "
            "declared, as far as that can be told without fetching what did not change.",
            "metadata": self._figures,
        }

    @property
    def _by_mirror(self) -> str:
        """Return what each mirror gives, in markdown: a table of addresses is wider than a page."""
        gives = {m: "every archive" if alive else "not all" for m, alive in self.alive.items()}
        for standing, archive in zip(self.standings, self.archives, strict=True):
            if standing.is_wrong:
                gives[archives.mirror_of(standing.probe.place, archive)] = "other bytes"
        return "\n".join(f"- **{what}**: {mirror}" for mirror, what in gives.items())

    @property
    def _figures(self) -> dict[str, Any]:
        return {
            "mirrors": len(self.alive),
            "mirrors_alive": sum(self.alive.values()),
            "places_dead": len(self.dead),
            "places_wrong": len(self.wrong),
            "seconds": max((s.probe.seconds for s in self.standings), default=0.0),
        }


def _lines(found: Mapping[str, str]) -> str:
    return "".join(f"{place}: {why}\n" for place, why in found.items())


def known(instance: dg.DagsterInstance, source: str) -> dict[str, Standing]:
    """Return place → standing, as the latest look at a source's mirrors found them."""
    last: dg.AssetMaterialization | dg.AssetObservation | None = None
    for record in instance.fetch_materializations(key(source), limit=1).records:
        last = record.asset_materialization
    if last is None:  # earlier releases observed the archives
        archives_of = assets_of_archives.key(source)
        for record in instance.fetch_observations(archives_of, limit=1).records:
            last = record.asset_observation
    try:
        return {s.probe.place: s for s in _standings(last.metadata["places"])} if last else {}
    except (KeyError, TypeError):  # another release looked: begin anew
        logger.info("%s: a look of another form is passed over", source)
        return {}


def _as_table(standings: Iterable[Standing]) -> dg.TableMetadataValue | dg.JsonMetadataValue:
    """Return standings as the UI shows them, and `known` reads them again."""
    rows = [
        {**asdict(standing.probe), "judged": standing.judged, "wrong": standing.wrong}
        for standing in standings
    ]
    return as_table(rows) if rows else dg.MetadataValue.json([])


def _standings(kept: dg.MetadataValue[Any]) -> Iterator[Standing]:
    """Yield standings from a table, or from the JSON in which earlier releases kept them."""
    if isinstance(kept, dg.TableMetadataValue):
        for record in kept.records:
            probe: dict[str, Any] = dict(record.data)
            judged, wrong = probe.pop("judged"), probe.pop("wrong")
            yield Standing(Probe(**probe), judged, wrong)
    else:
        rows: Any = kept.value
        for row in rows:
            yield Standing(Probe(**row["probe"]), row["judged"], row["wrong"])


def look(
    declared: Catalogue,
    sources: Iterable[Source],
    settings: Settings,
    before: Mapping[str, Mapping[str, Standing]],
    *,
    fetch: bool,
) -> list[Mirrors]:
    """Look at every mirror of some sources, all side by side; return what is known then.

    Of archives that are each of a part of a split, at those that were ever fetched, if any were.

    Args:
        declared: the catalogue.
        sources: those to look at.
        settings: name a mirror of one's own, or forbid connections.
        before: source → place → standing, from the last look.
        fetch: where another version of the right length lies at a place, fetch and compare it.
            Otherwise it stays unjudged.
    """
    places = {
        source.name: {
            place: archive
            for archive in _asked_for(settings, source)
            for place in archives.places(
                source, archive, _mirror(settings, source), settings.offline
            )
        }
        for source in sources
    }
    found = probes.look(place for at in places.values() for place in at)

    def stand(source: str, place: str, archive: Archive) -> Standing:
        earlier = before[source].get(found[place].place)
        standing = probes.standing(archive, earlier, found[place])
        if standing is None and fetch:
            standing = _compared(archive, place, found[place], settings, declared.identify)
        if standing is None and earlier:
            standing = Standing(found[place], earlier.judged, earlier.wrong)
        return standing or Standing(found[place])

    looked = [
        Mirrors(
            source,
            tuple(stand(source, place, archive) for place, archive in at.items()),
            tuple(archive.name for archive in at.values()),
        )
        for source, at in places.items()
    ]
    for one in looked:  # for `status`, which asks no Dagster
        alive = sum(one.alive.values())
        looks.note(settings.store, one.source, len(one.alive), alive, len(one.wrong))
    return looked


def _asked_for(settings: Settings, source: Source) -> list[Archive]:
    """Return the archives that anybody asked for, where each is of one part of a split."""
    every = list(source.archives.values())
    if not parts_of_archives(source):
        return every
    there = settings.store.names(f"{layout.LINEAGE}/{layout.archives(source.name)}")
    known = {layout.lineage(layout.archive(source.name, one.name)): one for one in every}
    return [one for path, one in known.items() if path in there] or every


def _mirror(settings: Settings, source: Source) -> str | None:
    """Return the user's mirror; not a folder that has nothing of a source, for it need not."""
    if settings.mirror and "://" not in settings.mirror:
        folder = Path(settings.mirror)
        if folder.is_dir() and not (folder / source.name).exists():
            return None
    return settings.mirror


def check(settings: Settings, declared: Catalogue, source: Source) -> dg.AssetChecksDefinition:
    """Return the check that a source's mirrors serve what the catalogue declares."""

    @spelling.asset_check(
        asset=key(source.name),
        name=CHECK,
        description="Every mirror that answers serves the bytes that the catalogue declares, as "
        "far as it can be told without fetching what did not change. Nothing depends on it.",
    )
    def mirrors_serve(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        before = {source.name: known(context.instance, source.name)}
        [found] = look(declared, [source], settings, before, fetch=True)
        if found.alive:
            context.op_execution_context.log_event(found.told())
        return found.result()

    return mirrors_serve


def _compared(
    archive: Archive, place: str, now: Probe, settings: Settings, identify: Identify
) -> Standing | None:
    """Return the standing of a place after fetching from it; None where it gave nothing."""
    logger.warning("%s changed; fetching it to compare", now.place)
    try:
        wrong = archives.compare(archive, place, settings.here / "archives", identify)
    except DownloadFailed as error:
        problem = without_secrets(str(error), place)
        logger.warning("%s changed, and can't be compared now: %s", now.place, problem)
        return None
    return Standing(now, now.version, wrong)
