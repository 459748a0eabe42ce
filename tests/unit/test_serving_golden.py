"""Golden probes read from a data set's CSV files."""

from pathlib import Path
from typing import Any

import pytest

from services.core.errors import BadInput
from services.core.object_backends.folder import open_store
from services.serving.domain import Golden, Probe
from services.serving.golden import CsvProbes, read_csv

TABLE = b"label,p0,p1\n7,1,2\n3,0.5,4\n9,0,0\n"


def test_probes_are_the_rows_of_the_split_in_order(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    files = [{"path": "test.csv", "size": len(TABLE), "sha256": store.put(TABLE)}]
    record: dict[str, Any] = {"id": "d", "manifest": {"files": files, "splits": {"test": ["test.csv"]}}}
    golden = CsvProbes(store, {"digits@1": record}.__getitem__)
    assert golden.probes(Golden(dataset="digits@1", limit=2)) == [
        Probe("test.csv:1", (1.0, 2.0), "7"), Probe("test.csv:2", (0.5, 4.0), "3")
    ]
    with pytest.raises(BadInput, match="no split 'train'"):
        golden.probes(Golden(dataset="digits@1", split="train"))


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"p0,p1\n1,2\n", "label"), (b"label,p0\n1,x\n", "row 1"), (b"label,p0\n1\n", "columns"), (b"", "label")],
)
def test_a_table_without_labels_or_numbers_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        read_csv("t.csv", data, 10)
