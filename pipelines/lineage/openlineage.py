"""OpenLineage: events about the making of artefacts, for lineage catalogues.

Each making is a run of its own: START, then COMPLETE or FAIL. Where nothing is made, no
event is sent. Names follow OpenLineage's naming specification:

    job        namespace `imagesets`, name as the artefact's path: tables/mnist/train.parquet
    dataset    namespace `file`, name as the file's path; of an archive's origin its URL, in two:
               https://example.org and /mnist/train-images-idx3-ubyte.gz
    column     of a table as it is called; of an archive a member, or the archive itself

Building events is pure and needs the extra `openlineage` (the standard's own client). `Outbox`
alone acts. Not here: deciding what is made, or what provenance says (`pipelines.store`).
"""

from __future__ import annotations

import importlib.util
import logging
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow.parquet as pq

from .. import __version__, formats, products, statistics, tables
from ..archives import ALREADY_THERE
from ..errors import ImagesetsError
from ..products import Column
from ..redaction import without_secrets
from ..store import Artefact, Input, Provenance
from ..store.provenance import versions

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent
    from openlineage.client.generated.base import DatasetFacet, RunFacet
    from openlineage.client.transport import Transport

logger = logging.getLogger(__name__)

NAMESPACE = "imagesets"
PRODUCER = f"pkg:generic/imagesets@{__version__}"  # a package URL: there is no other address
PATIENCE_S = 2.0  # for an answer, and at the end of a run for all events that wait

_IDENTITY, _TRANSFORMED = ("DIRECT", "IDENTITY"), ("DIRECT", "TRANSFORMATION")
_AGGREGATED, _GROUPED = ("DIRECT", "AGGREGATION"), ("INDIRECT", "GROUP_BY")
_ORDERED = ("INDIRECT", "SORT")

_KINDS = {"identity": _IDENTITY, "transformed": _TRANSFORMED}
_FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json"}


@dataclass(frozen=True, slots=True)
class Making:
    """One making of an artefact: what all its events tell alike.

    data: the data folder, absolute, or the address of a bucket.
    began: UTC, ISO 8601.
    dagster_run: the id of the Dagster run that it is part of.
    """

    data: str
    artefact: Artefact
    began: str
    dagster_run: str | None = None

    @property
    def run_id(self) -> str:
        """The id of this making's run: the same for all its events."""
        said = f"{self.dagster_run}/{self.artefact.path}/{self.began}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, said))


def started(making: Making) -> RunEvent:
    """Return the event that tells that a making began."""
    return _event(making, "START", making.began, making.artefact.inputs)


def completed(making: Making, made: Provenance, footer: pq.FileMetaData | None = None) -> RunEvent:
    """Return the event that tells what was made; `footer` is that of a Parquet file."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics_facet

    namespace, name = _file(making.data, made.path)
    size = statistics_facet.OutputStatisticsOutputDatasetFacet(
        rowCount=made.records, size=made.size_bytes, fileCount=len(made.files or (1,))
    )
    output = OutputDataset(
        namespace,
        name,
        facets=_known(made.sha256, namespace, name) | _columns(making, made, footer),
        outputFacets={"outputStatistics": size},
    )
    return _event(making, "COMPLETE", made.run.ended, made.inputs, output)


def failed(making: Making, error: BaseException, when: str) -> RunEvent:
    """Return the event that tells why nothing was made; `when` is UTC, ISO 8601."""
    from openlineage.client.facet_v2 import error_message_run

    said = error_message_run.ErrorMessageRunFacet(str(error) or type(error).__name__, "PYTHON")
    return _event(making, "FAIL", when, making.artefact.inputs, errorMessage=said)


def _event(
    making: Making,
    state: str,
    when: str,
    inputs: Iterable[Input],
    output: OutputDataset | None = None,
    **facets: RunFacet,
) -> RunEvent:
    from openlineage.client import event_v2
    from openlineage.client.facet_v2 import job_type_job, parent_run, processing_engine_run

    event_v2.set_producer(PRODUCER)
    facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
        version=versions()["dagster"], name="Dagster", openlineageAdapterVersion=__version__
    )
    if making.dagster_run:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=making.dagster_run),
            job=parent_run.Job(namespace=NAMESPACE, name="dagster"),
        )
    kind = job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", "ASSET")
    return event_v2.RunEvent(
        eventType=event_v2.RunState[state],
        eventTime=when,
        run=event_v2.Run(making.run_id, facets=facets),
        job=event_v2.Job(NAMESPACE, making.artefact.path, facets={"jobType": kind}),
        inputs=[_input(making, found) for found in inputs if found.path != ALREADY_THERE],
        outputs=[output or event_v2.OutputDataset(*_file(making.data, making.artefact.path))],
        producer=PRODUCER,
    )


def _input(making: Making, found: Input) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset, schema_dataset

    namespace, name = _named(making, found)
    facets = _known(found.sha256, namespace, name)
    if members := _members(making.artefact, found):
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [schema_dataset.SchemaDatasetFacetFields(member, role) for role, member in members]
        )
    size = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        size=found.size_bytes, fileCount=1
    )
    return InputDataset(namespace, name, facets=facets, inputFacets={"inputStatistics": size})


def _file(data: str, path: str) -> tuple[str, str]:
    """Return (namespace, name) of a file of ours, as OpenLineage spells them."""
    if "://" not in data:
        return "file", f"{data}/{path}"
    url = urlsplit(data)
    return f"{url.scheme}://{url.netloc}", f"{url.path}/{path}".lstrip("/")


def _named(making: Making, found: Input) -> tuple[str, str]:
    """Return (namespace, name) of an input: a file of ours, or where an archive came from."""
    if making.artefact.stage != "archives":
        return _file(making.data, found.path)
    scheme, colon, rest = found.path.partition(":")
    if rest.startswith("//"):
        url = urlsplit(without_secrets(found.path))
        is_bucket = scheme not in ("http", "https")  # where a name is a key, as it is
        name = unquote(url.path).removeprefix("/") if is_bucket else url.path
        return f"{scheme}://{url.netloc}", name
    if colon and scheme in ("apt", "npm"):
        return scheme, rest
    return "file", found.path


def _known(sha256: str | None, namespace: str, name: str) -> dict[str, DatasetFacet]:
    """Return what can be said of any dataset: where it is, of what kind, and which bytes."""
    from openlineage.client.facet_v2 import (
        dataset_type_dataset,
        dataset_version_dataset,
        datasource_dataset,
        storage_dataset,
    )

    where = namespace if "://" in namespace else f"{namespace}:"
    facets: dict[str, DatasetFacet] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet("FILE"),
        "dataSource": datasource_dataset.DatasourceDatasetFacet(namespace, where),
    }
    if form := _FORMATS.get(PurePosixPath(name).suffix):
        facets["storage"] = storage_dataset.StorageDatasetFacet("file", form)
    if sha256:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(sha256)
    return facets


def _columns(
    making: Making, made: Provenance, footer: pq.FileMetaData | None
) -> dict[str, DatasetFacet]:
    """Return which columns an artefact has, what they were made from, and their extremes."""
    from openlineage.client.facet_v2 import data_quality_metrics_dataset, schema_dataset

    columns = _declared(made.stage)
    types: Mapping[str, str] = {column.name: column.type for column in columns}
    meanings: Mapping[str, str] = {
        column.name: column.meaning or tables.COLUMNS[str(column.of)] for column in columns
    }
    if footer is not None:
        besides = made.parameters.get("columns", {})
        meanings = {**tables.COLUMNS, **besides} if made.stage == "tables" else statistics.COLUMNS
        schema = footer.schema.to_arrow_schema()
        types = {field.name: str(field.type) for field in schema}
    facets: dict[str, DatasetFacet] = {}
    if types:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(
            [
                schema_dataset.SchemaDatasetFacetFields(name, type_, meanings.get(name), at)
                for at, (name, type_) in enumerate(types.items(), start=1)
            ]
        )
        facets["columnLineage"] = _column_lineage(making, made.inputs, list(types))
    if footer is not None:
        facets["dataQualityMetrics"] = data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
            columnMetrics=_metrics(footer), rowCount=footer.num_rows, bytes=made.size_bytes
        )
    return facets


def _column_lineage(
    making: Making, inputs: Sequence[Input], columns: Sequence[str]
) -> DatasetFacet:
    from openlineage.client.facet_v2 import column_lineage_dataset as facet

    def origins(column: str) -> list[facet.InputField]:
        return [
            facet.InputField(*_named(making, found), field, [facet.Transformation(*kind)])
            for found in inputs
            for field, kind in _made_from(making.artefact, found, column)
        ]

    made_from = {column: origins(column) for column in columns}
    return facet.ColumnLineageDatasetFacet(
        {column: facet.Fields(inputFields=found) for column, found in made_from.items() if found}
    )


def _made_from(artefact: Artefact, found: Input, column: str) -> list[tuple[str, tuple[str, str]]]:
    """Return (column of an input, kind of transformation) for a column of an artefact."""
    if artefact.stage == "tables":
        roles = formats.named(artefact.parameters["format"]).roles_of(column)
        kind = _ORDERED if column == "index" else _TRANSFORMED
        return [(name, kind) for role, name in _members(artefact, found) if role in roles]
    if artefact.stage == "statistics":
        read = statistics.made_from(column)
        is_grouped = "pixels" in read
        kinds = {"label": _GROUPED if is_grouped else _AGGREGATED, "pixels": _AGGREGATED}
        return [(name, _IDENTITY if name == column else kinds[name]) for name in read]
    return [
        (declared.of, _KINDS[declared.how])
        for declared in _declared(artefact.stage)
        if declared.name == column and declared.of
    ]


def _declared(stage: str) -> tuple[Column, ...]:
    """Return the columns that an export or a description declares."""
    product = products.known().get(stage)
    return product.columns if product else ()


def _members(artefact: Artefact, found: Input) -> list[tuple[str, str]]:
    """Return (role, name) of the members that a table is read from in one of its archives."""
    if artefact.stage != "tables":
        return []
    archive = PurePosixPath(found.path).name
    return [
        (role, member["path"] or archive)
        for role, members in artefact.parameters["members"].items()
        for member in members
        if member["archive"] == archive
    ]


def _metrics(footer: pq.FileMetaData) -> dict[str, Any]:
    """Return the extremes of those numeric columns that the file knows them of."""
    from openlineage.client.facet_v2 import data_quality_metrics_dataset

    found: dict[str, list[Any]] = {}
    for group in range(footer.num_row_groups):
        for number in range(footer.num_columns):
            chunk = footer.row_group(group).column(number)
            if (known := chunk.statistics) is not None and known.has_min_max:
                found.setdefault(chunk.path_in_schema, []).append(known)
    return {
        name: data_quality_metrics_dataset.ColumnMetrics(
            nullCount=sum(part.null_count for part in parts),
            min=min(part.min for part in parts),
            max=max(part.max for part in parts),
        )
        for name, parts in found.items()
        if isinstance(parts[0].min, int | float)
    }


@dataclass(frozen=True, slots=True)
class Target:
    """Where events go: to a file, an endpoint, or nowhere.

    offline: no connection may be opened; a file gets them all the same.
    """

    address: str | None = field(default=None, repr=False)  # it may hold a password
    offline: bool = False

    def open(self) -> Outbox | None:
        """Return where to put events, if they go anywhere."""
        if self.address and self.offline and _is_endpoint(self.address):
            where = without_secrets(self.address)
            logger.warning(
                "OpenLineage: offline, nothing is told to %s; the build goes on. Name a file "
                "instead to keep the events.",
                where,
            )
            return None
        return Outbox(self.address) if self.address else None


class Outbox:
    """Takes events to a file (JSON, one a line) or an endpoint; makes nobody wait, never raises.

    A thread builds and sends them in order. What can't be sent is lost; one warning says so.
    """

    def __init__(self, target: str) -> None:
        """Open for a path, or for the URL of an endpoint (`/api/v1/lineage` is added to it)."""
        self._target = target
        self._warned = False
        self._waiting: queue.SimpleQueue[Callable[[], RunEvent] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="openlineage", daemon=True)
        self._thread.start()

    def put(self, event: Callable[[], RunEvent]) -> None:
        """Take an event, that is built when its turn comes."""
        self._waiting.put(event)

    def close(self) -> None:
        """Wait a little for events that are still to be sent."""
        self._waiting.put(None)
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._warn("it is too slow")

    def _work(self) -> None:
        transport: Transport | None = None
        while (event := self._waiting.get()) is not None:
            try:
                transport = transport or _transport(self._target)
                transport.emit(event())
            except Exception as error:
                self._warn(str(error))
        if transport is not None:
            transport.close()

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "OpenLineage: not every event reaches %s (%s); the build goes on",
                without_secrets(self._target),
                without_secrets(why, self._target),
            )


def require_client() -> None:
    """Make sure that events can be built.

    Raises:
        ImagesetsError: the extra is not installed.
    """
    if importlib.util.find_spec("openlineage") is None:
        raise ImagesetsError(
            "Events were asked for (--openlineage or IMAGESETS_OPENLINEAGE), but OpenLineage's "
            "client is not installed. Run: pip install openlineage-python, or go without."
        )


def _is_endpoint(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def _transport(target: str) -> Transport:
    """Return the client's own way to a file or an endpoint."""
    from openlineage.client.transport.file import FileConfig, FileTransport
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    if _is_endpoint(target):
        return HttpTransport(HttpConfig(target, timeout=PATIENCE_S, retry={"total": 0}))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(target, append=True))
