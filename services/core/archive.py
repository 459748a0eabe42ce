"""The evidence archive's layout: which member holds what. Written by the registry, read by the offline verifier."""

VERSION = 1

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

FIXED = (
    INDEX,
    MANIFEST,
    REQUEST,
    DECISION,
    DECISION_INPUT,
    EVALUATION,
    PROVENANCE,
    ARTIFACT_SIGNATURE,
    FILES,
    POLICY,
    POLICY_SIGNATURE,
    MODEL_SIGNATURE,
    CHECKPOINT,
)
"""Members that every archive has."""


def hex_name(folder: str, digest: str, suffix: str = ".json") -> str:
    """`datasets/<hex>.json`"""
    return f"{folder}{digest.removeprefix('sha256:')}{suffix}"
