"""What a program cannot have the engine do behind the recorder's back: each is refused by name, or a diff would not show it."""

import textwrap
from pathlib import Path

import pytest

from infra.render import render
from services.core.errors import BadInput

START = """
import pulumi
from pulumi import ResourceOptions
from pulumi_aws import Provider, kms
provider = Provider("aws", region="eu-central-1")
key = kms.Key("old", opts=ResourceOptions(provider=provider, protect=True))
"""

HIDDEN = {
    "a replacement whenever a value changes": ('kms.Key("k", opts=OPTIONS(replacement_trigger="2"))', "replacement_trigger"),
    "a replacement with another": ('kms.Key("k", opts=OPTIONS(replace_with=[key]))', "replace_with"),
    "a replacement of what would be updated": ('kms.Key("k", opts=OPTIONS(replace_on_changes=["tags"]))', "replaceOnChanges"),
    "an import in place of what is deleted": ('kms.Key("k", opts=OPTIONS(import_="1"))', "importId"),
    "a deletion that is left out": ('kms.Key("k", opts=OPTIONS(deleted_with=key))', "deletedWith"),
    "a diff that is not shown": ('kms.Key("k", opts=OPTIONS(hide_diffs=["policy"]))', "hideDiffs"),
    "a plug-in of somebody else": ('kms.Key("k", opts=OPTIONS(plugin_download_url="https://x"))', "pluginDownloadURL"),
    "a component that a plug-in makes": ('pulumi.ComponentResource("x:y:Z", "z", {}, None, True)', "remote"),
}


def _render(folder: Path, program: str) -> None:
    (folder / "infra").mkdir()
    text = START + textwrap.dedent(program).replace("OPTIONS(", "ResourceOptions(provider=provider, ")
    (folder / "infra" / "__main__.py").write_text(text, encoding="utf-8")
    render(folder, "dev", config_text="config: {ai-infra:stack: {team: ml}}")


@pytest.mark.parametrize(("program", "option"), HIDDEN.values(), ids=HIDDEN)
def test_option_that_no_graph_holds_is_refused(tmp_path: Path, program: str, option: str) -> None:
    with pytest.raises(BadInput, match=f"the option {option} is not recorded: do without it"):
        _render(tmp_path, program)


def test_transform_that_the_engine_calls_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="registers a transform of all resources"):
        _render(tmp_path, "pulumi.runtime.register_resource_transform(lambda args: None)\n")
