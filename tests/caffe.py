"""LMDB as Caffe reads it, by way of LMDB's own library and Google's protobuf: nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# message Datum as in Caffe's caffe.proto, proto2.
FIELDS = {
    "channels": (1, "INT32", "OPTIONAL"),
    "height": (2, "INT32", "OPTIONAL"),
    "width": (3, "INT32", "OPTIONAL"),
    "data": (4, "BYTES", "OPTIONAL"),
    "label": (5, "INT32", "OPTIONAL"),
    "float_data": (6, "FLOAT", "REPEATED"),
    "encoded": (7, "BOOL", "OPTIONAL"),
}


def _datum() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe_datum.proto", package="caffe", syntax="proto2"
    )
    message = file.message_type.add(name="Datum")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, (number, kind, label) in FIELDS.items():
        message.field.add(
            name=name,
            number=number,
            type=getattr(kinds, f"TYPE_{kind}"),
            label=getattr(kinds, f"LABEL_{label}"),
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


Datum = _datum()


def records(folder: Path) -> Iterator[tuple[str, Any]]:
    """(key, Datum) of every record, opened as Caffe opens it."""
    with (
        lmdb.open(str(folder), readonly=True, lock=False) as database,
        database.begin() as transaction,
    ):
        for key, value in transaction.cursor():
            yield key.decode("ascii"), Datum.FromString(value)


def read(folder: Path) -> tuple[list[str], npt.NDArray[np.uint8], list[int]]:
    """Keys, images of shape (records, height, width, channels), and labels."""
    keys, images, labels = [], [], []
    for key, datum in records(folder):
        assert not datum.HasField("encoded")
        assert not datum.float_data
        planes = np.frombuffer(datum.data, np.uint8)
        planes = planes.reshape(datum.channels, datum.height, datum.width)
        keys.append(key)
        images.append(planes.transpose(1, 2, 0))
        labels.append(datum.label)
    return keys, np.stack(images), labels
