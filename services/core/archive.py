"""The evidence archive's layout: which member holds what. Written by the registry, read by the offline verifier.

Its form is `storedzip`. An archive is about a promotion, or about one prediction of the version that was promoted.
"""

from collections.abc import Iterable

VERSION = 2

INDEX = "evidence.json"
MANIFEST = "manifest.dsse.json"
REQUEST = "request.dsse.json"
DECISION = "decision.dsse.json"
DECISION_INPUT = "decision-input.json"
EVALUATION = "evaluation.dsse.json"
PROVENANCE = "provenance.dsse.json"
ARTIFACT_SIGNATURE = "builder.sig"
FILES = "files.json"
POLICY = "policy.tar"
POLICY_SIGNATURE = "policy.dsse.json"
MODEL = "model/"
MODEL_SIGNATURE = "model/model.sig"
DATASETS = "datasets/"
DATASET_APPROVALS = "dataset-approvals/"
LOG = "log/"
CHECKPOINT = "log/checkpoint"

PREDICTION = "prediction.json"
"""The record itself: the canonical bytes that are a leaf of its batch's tree."""
PREDICTION_PROOF = "prediction-proof.json"
DEPLOY_INPUT = "deploy-input.json"
DEPLOY_POLICY = "deploy-policy.tar"
DEPLOY_POLICY_SIGNATURE = "deploy-policy.dsse.json"

FIXED = (
    INDEX,
    MANIFEST,
    REQUEST,
    DECISION,
    DECISION_INPUT,
    EVALUATION,
    POLICY,
    POLICY_SIGNATURE,
    MODEL_SIGNATURE,
    PROVENANCE,
    ARTIFACT_SIGNATURE,
    FILES,
    CHECKPOINT,
)
"""Members that every archive has."""

OF_PREDICTION = (PREDICTION, PREDICTION_PROOF, DEPLOY_INPUT, DEPLOY_POLICY, DEPLOY_POLICY_SIGNATURE)
"""Members that an archive about a prediction has beside them, and no other has."""

FOLDERS = (MODEL, DATASETS, DATASET_APPROVALS, LOG)

# The checkpoint stands with its log, which is read after all that it tells of.
_PLACES = {name: place for place, name in enumerate((*(name for name in FIXED if name != CHECKPOINT), *OF_PREDICTION))}

WEIGHTS_UP_TO = 1 << 30
"""Bytes of a model that an archive holds, unless less is asked for; a larger one is given to the verifier as a folder."""


def ordered(names: Iterable[str]) -> list[str]:
    """Members in the one order that an archive has: those of a fixed name as listed above, then those of folders by name."""
    return sorted(names, key=lambda name: (_PLACES.get(name, len(_PLACES)), name))


def hex_name(folder: str, digest: str, suffix: str = ".json") -> str:
    """`datasets/<hex>.json`"""
    return f"{folder}{digest.removeprefix('sha256:')}{suffix}"
