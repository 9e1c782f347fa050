"""What assets are given to work with: the store they write to, options, and what does the work.

Not here: how anything is made (`pipelines.building`), or what people see (`metadata`).
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import dagster as dg
from dagster._core.storage.tags import BACKFILL_ID_TAG
from pydantic import Field, PrivateAttr, create_model

from assets import checks, metadata, partitions
from assets.settings import Settings, folder_or_bucket
from pipelines import plan as plans
from pipelines import stages
from pipelines.building import Ahead, Known, Web, Workshop
from pipelines.declarations import Source
from pipelines.errors import ArchiveUnavailable, ImagesetsError
from pipelines.lineage import openlineage
from pipelines.lineage.openlineage import Outbox
from pipelines.plan import AssetPath, Plan
from pipelines.progress import Display
from pipelines.store import hashing


@contextlib.contextmanager
def refusals(retries: dg.RetryPolicy | None = None) -> Iterator[None]:
    """Let our own errors reach people as they are, and retry only where that may help.

    The policy is not the asset's own, because Dagster would go by it when somebody cancels the run:
    that, too, would be a reason to try again. Whoever fails for the last time says why, not how
    often it was tried.
    """
    try:
        yield
    except ImagesetsError as error:
        may_pass = isinstance(error, ArchiveUnavailable) and error.may_pass
        facts: dict[str, Any] = {"error": type(error).__name__, "may_pass": may_pass}
        failure = dg.Failure(str(error), facts, allow_retries=False)
        tried = dg.AssetExecutionContext.get().op_execution_context.retry_number if retries else 0
        if retries and may_pass and tried < retries.max_retries:
            wait_s = retries.calculate_delay(tried + 1)
            raise dg.RetryRequested(retries.max_retries, wait_s) from failure
        raise failure from error


class Store(dg.ConfigurableResource[Any]):
    """The data folder; what is made there is told to a target of OpenLineage events.

    The target's address may hold a password, and Dagster records and shows all the fields of a
    resource like this one: so it is none.
    """

    data: str = Field(
        description="The data folder of this instance. Leave it: what is made in another one is "
        "recorded here as if it lay in this one."
    )
    _settings: Settings = PrivateAttr(default=Settings())
    _target: openlineage.Target = PrivateAttr(default=openlineage.Target())
    _run_id: str | None = PrivateAttr(default=None)
    _outbox: Outbox | None = PrivateAttr(default=None)
    _begun: bool = PrivateAttr(default=False)
    _selected: Collection[dg.AssetKey] = PrivateAttr(default=())

    @staticmethod
    def telling(settings: Settings, begun: bool = False) -> Store:
        """Return a store that tells the settings' target, which Dagster's copies of it know too.

        Where the run has `begun` outside Dagster, what it read and tells is none of Dagster's.
        """
        target = settings.target()

        class Telling(Store):
            _settings: Settings = PrivateAttr(default=settings)
            _target: openlineage.Target = PrivateAttr(default=target)
            _begun: bool = PrivateAttr(default=begun)

        return Telling(data=settings.shown_data)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Learn which run this is: the provenance of artefacts tells it."""
        self._run_id = context.run.run_id if context.run else None
        self._selected = _selected(context)
        if not self._begun:
            hashing.forget()  # what a run is made from is read in that run
            self._outbox = self._target.open()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Tell what is still to be told."""
        if self._outbox:
            self._outbox.close()

    def is_asked(self, assets: Iterable[AssetPath]) -> bool:
        """Whether the run is to make some assets; one that names none makes all of its job."""
        job = dg.AssetExecutionContext.get().job_def
        selected = self._selected or job.asset_layer.executable_asset_keys
        return {dg.AssetKey(one) for one in assets} <= {*selected}

    def workshop(self, plan: Plan, web: Web, display: Display, known: Known) -> Workshop:
        """Return what makes assets in this run."""
        settings = self._settings
        if self.data != settings.shown_data:
            settings = replace(settings, data=folder_or_bucket(self.data))
        return Workshop(settings.store, plan, web, display, known, self._run_id, self._outbox)


def _selected(context: dg.InitResourceContext) -> Collection[dg.AssetKey]:
    """Return what was asked for: by a run, or by the backfill that it is a part of.

    "Materialize all" starts a backfill where some of the assets have partitions, and this a run for
    those of each kind.
    """
    run, instance = context.run, context.instance
    if run and instance and (backfill := run.tags.get(BACKFILL_ID_TAG)):
        asked = instance.get_backfill(backfill)
        if asked and asked.asset_selection:
            return asked.asset_selection
    return (run and run.asset_selection) or ()


class Options(dg.ConfigurableResource[Any]):
    """What a run may be told in the launchpad; without that, the settings hold.

    An artefact made with other options than the settings' counts as out of date for the next run
    that goes by the settings.
    """

    exports: list[str] = Field(default=[])

    @staticmethod
    def by(settings: Settings, exports: Sequence[str]) -> dg.ResourceDefinition:
        """Return the options with the settings as their defaults, which the launchpad shows.

        Dagster maps the configuration of a resource when a run is launched, and makes the resource
        once it has begun: so what it can't tell by types alone, a number out of bounds, is refused
        in the mapping.
        """
        fields: dict[str, Any] = {
            name: (
                Literal[option.choices] if option.choices else type(option.default),
                Field(
                    default=settings.chosen[name],
                    description=f"{option.help[0].upper()}{option.help[1:]}.",
                    ge=None if isinstance(option.default, bool | str) else option.low,
                    le=None if isinstance(option.default, bool | str) else option.high,
                ),
            )
            for name, option in stages.options().items()
        }
        said = (
            "The exports that the run makes, of those selected. What is not made by default is "
            "made without being named too, unless the run is one of everything. There are: "
            f"{', '.join(stages.exports())}."
        )
        # Dagster holds an enumeration to its values at launch, a text only when the run has begun.
        named = dict.fromkeys((*stages.exports(), *exports))
        known: Any = enum.StrEnum("Export", [(one, one) for one in named])  # type: ignore[misc]
        kinds: Any = list[known]
        fields["exports"] = (kinds, Field(default=list(exports), description=said))
        chosen: type[Options] = create_model("Chosen", __base__=Options, **fields)

        def within_bounds(given: dict[str, Any]) -> dict[str, Any]:
            chosen(**given)
            return given

        launched = chosen().get_resource_definition()
        return launched.configured(within_bounds, chosen.to_config_schema())

    @property
    def chosen(self) -> dict[str, Any]:
        """What was chosen of every option, by its name."""
        return {name: getattr(self, name) for name in stages.options()}


class Work:
    """What the steps of a run have in common; plain Python, of which Dagster records nothing."""

    def __init__(
        self,
        plan: Plan,
        web: Web,
        display: Display,
        ahead: Ahead | None = None,
        *,
        is_named: bool = False,
    ) -> None:
        """Have made nothing yet; what is made `ahead` of a step is not made in it.

        Where whoever started the run named all that it is to make (`is_named`), it is none of
        everything, however much it makes.
        """
        self._plan_by_settings, self._web, self._display, self._ahead = plan, web, display, ahead
        self._is_named = is_named
        self._known = Known()
        self._plans = {_key(plan.options): plan}

    def is_wanted(
        self, store: Store, options: Options, stage: str, source: Source | None = None
    ) -> bool:
        """Whether a run makes what it was asked for of a stage, and of a source.

        It leaves default exports out that the launchpad does not name. Whatever is no default, and
        the archives of a source that is made on request, with all that would be made of them, it
        leaves out of a run of everything, "Materialize all": that would take tens of gigabytes
        that nobody asked for.
        """
        if source and source.on_request and self._is_of_everything(store, options):
            return False
        if stage in stages.DEFAULT:
            return stage not in stages.exports() or stage in options.exports
        needed = {need for name in options.exports for need in stages.needs(name)}
        if stage in {*options.exports, *needed}:
            return True
        return not self._is_of_everything(store, options)

    def _is_of_everything(self, store: Store, options: Options) -> bool:
        """Whether nobody named what the run makes."""
        if self._is_named:
            return False
        plan = self._plan(options)
        default = plan.of(plan.declared.by_default, stages.DEFAULT)
        return store.is_asked(plan.assets(default or None))

    def do(
        self,
        store: Store,
        options: Options,
        asset: AssetPath,
        retries: dg.RetryPolicy | None = None,
    ) -> Iterator[Any]:
        """Bring an asset up to date; yield what Dagster and people want to know of it.

        Of one that comes in parts, that is of those parts that the run is of.

        Raises:
            Failure: it can't be made.
            RetryRequested: not now, but it may help to try again, as the policy says.
        """
        parts = partitions.asked()
        with refusals(retries):
            workshop = store.workshop(self._plan(options), self._web, self._display, self._known)
            made = self._ahead.take(asset, parts) if self._ahead else None
            made = workshop.make(asset, parts) if made is None else made
            with workshop.doubting(made):
                yield metadata.materialized_now(workshop.plan, made)
            yield checks.as_made(asset, made)

    def _plan(self, options: Options) -> Plan:
        key, mine = _key(options.chosen), self._plan_by_settings
        if key not in self._plans:
            self._plans[key] = plans.of(
                mine.declared, options.chosen, left_out=mine.left_out, outlined=mine.outlined
            )
        return self._plans[key]


def _key(options: Mapping[str, Any]) -> str:
    return repr(sorted(options.items()))
