"""Asks one predictor by the Open Inference Protocol v2, over mTLS."""

from typing import Any

import httpx

from services.core.calls import call
from services.core.errors import Unavailable


def ask(client: httpx.Client, address: str, host: str, model: str, rows: list[list[float]]) -> list[str]:
    """The label of each row. address: scheme, IP address and port; host: the name that its certificate has to hold.

    Raises:
        Unavailable: it did not answer, or without a label for each row. BadInput, Refused: as it says.
    """
    data = [value for row in rows for value in row]
    tensor = {"name": "input", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}
    extensions = {"sni_hostname": host}
    found: Any = call(client, "POST", f"{address}/v2/models/{model}/infer", json={"inputs": [tensor]}, extensions=extensions)
    outputs = {output["name"]: output["data"] for output in found["outputs"]}
    labels = outputs.get("label", [])
    if len(labels) != len(rows):
        raise Unavailable(f"{address} answered {len(labels)} labels to {len(rows)} rows")
    return [str(label) for label in labels]
