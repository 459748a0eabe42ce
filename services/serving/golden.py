"""Labelled probes from data sets whose splits are CSV files: a header, one column `label`, all others numbers in input order."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.core.errors import BadInput
from services.core.objects import ObjectStore
from services.serving.domain import Golden, Probe

LABEL = "label"


@dataclass(frozen=True)
class CsvProbes:
    """dataset: answers a data set's record ({"id", "manifest": {"files": […], "splits": {name: [path]}}}) by id or name@version."""

    store: ObjectStore
    dataset: Callable[[str], Mapping[str, Any]]

    def probes(self, golden: Golden) -> list[Probe]:
        manifest = self.dataset(golden.dataset)["manifest"]
        if golden.split not in manifest["splits"]:
            raise BadInput(f"data set {golden.dataset} has no split {golden.split!r}: {sorted(manifest['splits'])}")
        digests = {item["path"]: item["sha256"] for item in manifest["files"]}
        found: list[Probe] = []
        for path in manifest["splits"][golden.split]:
            found += read_csv(path, self.store.get(digests[path]), golden.limit - len(found))
        return found


def read_csv(path: str, data: bytes, limit: int) -> list[Probe]:
    """The first `limit` rows; a probe's id is `path:row`, rows from 1. Raises BadInput."""
    rows = csv.reader(io.StringIO(data.decode("utf-8")))
    header = next(rows, [])
    if header.count(LABEL) != 1:
        raise BadInput(f"{path}: want a header with one column {LABEL!r}; golden probes are labelled")
    at = header.index(LABEL)
    result: list[Probe] = []
    for number, row in enumerate(rows, start=1):
        if len(result) >= limit:
            break
        try:
            values = tuple(float(value) for place, value in enumerate(row) if place != at)
        except ValueError as error:
            raise BadInput(f"{path}, row {number}: {error}") from error
        if len(row) != len(header):
            raise BadInput(f"{path}, row {number}: {len(row)} columns, the header has {len(header)}")
        result.append(Probe(f"{path}:{number}", values, row[at]))
    return result
