"""TFRecord files as TensorFlow reads them, by way of Google's protobuf: nothing of ours."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_KINDS = descriptor_pb2.FieldDescriptorProto


def _example() -> Any:
    """`tf.train.Example` as in tensorflow/core/example/{example,feature}.proto, proto3."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package="tensorflow", syntax="proto3"
    )

    def message(
        name: str, *fields: tuple[str, int, int, int, str], within: Any = None, **options: bool
    ) -> Any:
        made = (file.message_type if within is None else within.nested_type).add(name=name)
        for field, number, kind, label, type_name in fields:
            made.field.add(
                name=field, number=number, type=kind, label=label, type_name=type_name or None
            )
        for option, value in options.items():
            setattr(made.options, option, value)
        return made

    one, many = _KINDS.LABEL_OPTIONAL, _KINDS.LABEL_REPEATED
    text, other = _KINDS.TYPE_STRING, _KINDS.TYPE_MESSAGE
    message("BytesList", ("value", 1, _KINDS.TYPE_BYTES, many, ""))
    message("FloatList", ("value", 1, _KINDS.TYPE_FLOAT, many, ""))
    message("Int64List", ("value", 1, _KINDS.TYPE_INT64, many, ""))
    feature = message(
        "Feature",
        ("bytes_list", 1, other, one, ".tensorflow.BytesList"),
        ("float_list", 2, other, one, ".tensorflow.FloatList"),
        ("int64_list", 3, other, one, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    entry = ".tensorflow.Features.FeatureEntry"
    features = message("Features", ("feature", 1, other, many, entry))
    message(
        "FeatureEntry",
        ("key", 1, text, one, ""),
        ("value", 2, other, one, ".tensorflow.Feature"),
        within=features,
        map_entry=True,
    )
    message("Example", ("features", 1, other, one, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example()


def example(features: dict[str, bytes | int]) -> bytes:
    """An Example as `SerializeToString(deterministic=True)` writes it."""
    made = Example()
    for key, value in features.items():
        if isinstance(value, int):
            made.features.feature[key].int64_list.value.append(value)
        else:
            made.features.feature[key].bytes_list.value.append(value)
    return bytes(made.SerializeToString(deterministic=True))


def features(data: bytes) -> dict[str, Any]:
    """Key → the one value in its list."""
    found = {}
    for key, feature in Example.FromString(data).features.feature.items():
        [found[key]] = getattr(feature, feature.WhichOneof("kind")).value
    return found


def _masked(data: bytes) -> int:
    """TFRecord's checksum, with the CRC-32C computed bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(path: Path) -> list[bytes]:
    """What a TFRecord file holds; every checksum is held."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        length, checksum = struct.unpack_from("<QI", data, at)
        assert checksum == _masked(data[at : at + 8])
        found.append(data[at + 12 : at + 12 + length])
        assert struct.unpack_from("<I", data, at + 12 + length) == (_masked(found[-1]),)
        at += 16 + length
    return found
